"""Reports for the front page to check: valid ones, of a simulated TD with several GPUs, which tests change."""

import base64
import json
from typing import Any

from playwright.sync_api import Page

from attest_web.attestation.reports import Attestation, ReportRequest
from attest_web.dstack.guest_agent import Quote
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.signatures import SIGNING_ALGOS
from scripts.tee_simulator.tdx import SimulatedPlatform, TdMeasurements
from tests.e2e.support.dstack_guest import KMS_KEY, Guest, registers, sha256

MODEL = "org/model"
NONCE = bytes(range(32))
GPUS = 4

# Where things are in a quote, in hex digits.
TEE_TYPE, ATTRIBUTES, MRTD, MRCONFIGID, RTMR0, RTMR1, RTMR2, RTMR3, REPORT_DATA, ITS_NONCE, ITS_END = (
    2 * offset for offset in (4, *(48 + at for at in (120, 136, 184, 328, 376, 424, 472, 520, 552, 584)))
)

CHECK_REPORTS = """async ([reports, expected]) => {
  const { checkReport, sameMeasurements } = await import("/proof-page/attestation.js")
  const found = []
  for (const algo in reports) found.push(await checkReport(algo, reports[algo], expected[algo]))
  const same = await sameMeasurements(found.map((each) => each.quote))
  return { checks: [...found.flatMap((each) => each.checks), same], binds: found.map((each) => each.binds) }
}"""


def gpu_evidence(nonce: bytes, number: int) -> dict[str, str]:
    """The evidence of one GPU: the request for measurements with its nonce, and measurements of its own."""
    request = b"\x11\xe0\1\xff" + nonce + b"\0"
    return {"evidence": base64.b64encode(request + b"measured of GPU %d" % number).decode()}


def with_another(number: int, evidence: dict[str, str]) -> list[dict[str, str]]:
    """The evidence of all GPUs, with that of one replaced."""
    return [evidence if each == number else gpu_evidence(NONCE, each) for each in range(GPUS)]


COMPOSE = json.dumps({"name": "demo", "key_provider_id": KMS_KEY.hex()})
KNOWN_GUEST = Guest(COMPOSE).with_config(1, sha256(COMPOSE))
"""Of which a browser can tell everything."""


def true_reports(
    keys: SigningKeys, platform: SimulatedPlatform, nonce: bytes = NONCE, guest: Guest = KNOWN_GUEST
) -> dict[str, Any]:
    """A report about each key, of one TD with `GPUS` GPUs."""
    shown = guest.report()
    rtmr0, rtmr1, rtmr2, rtmr3 = registers(shown["event_log"])
    measured = TdMeasurements(b"\1" * 48, (rtmr0, rtmr1, rtmr2, rtmr3), guest.mr_config_id)

    class Evidence:
        def quote(self, report_data: bytes) -> Quote:
            return Quote(platform.quote(measured, report_data).hex(), shown["event_log"], shown["vm_config"])

        def info(self) -> dict[str, Any]:
            return dict(shown["info"])

    def gpu(nonce: str) -> str:
        listed = [gpu_evidence(bytes.fromhex(nonce), number) for number in range(GPUS)]
        return json.dumps({"nonce": nonce, "evidence_list": listed, "arch": "HOPPER"})

    attestation = Attestation(keys, MODEL, Evidence(), gpu, dev=False, metrics=Metrics())
    return {algo: json.loads(attestation.report(ReportRequest(algo), nonce)) for algo in SIGNING_ALGOS}


def check_reports(page: Page, keys: SigningKeys, told: dict[str, Any], dev: bool = False, nonce: bytes = NONCE) -> Any:
    addresses = {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}
    expected = {algo: {"nonce": nonce.hex(), "address": address, "dev": dev} for algo, address in addresses.items()}
    reports = {algo: each if isinstance(each, str) else json.dumps(each) for algo, each in told.items()}
    return page.evaluate(CHECK_REPORTS, [reports, expected])
