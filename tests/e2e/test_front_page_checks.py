"""The checks of the front page, its modules run in a real browser: each kind of lie about a signature and a report."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from attest_web import front_page
from attest_web.attestation import Attestation, ReportRequest
from attest_web.dstack import Quote
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.signatures import SIGNING_ALGOS, sign_text
from scripts.tee_simulator.tdx import SimulatedPlatform, TdMeasurements

MODEL = "org/model"
REQUEST, RESPONSE = b'{"a request"}', b'{"a response"}'
NONCE = bytes(range(32))
HASHES = ":".join(hashlib.sha256(body).hexdigest() for body in (REQUEST, RESPONSE))

# Where things are in a quote, in hex digits.
TEE_TYPE, ATTRIBUTES, MRTD, RTMR3, REPORT_DATA, ITS_NONCE = (
    2 * offset for offset in (4, 48 + 120, 48 + 136, 48 + 472, 48 + 520, 48 + 552)
)

CHECK_EXCHANGE = """async ([signatures, request, response, known]) => {
  const { checkExchange } = await import("/proof-page/exchange.js")
  const bytes = (text) => text === null ? null : new TextEncoder().encode(text)
  return checkExchange(signatures, bytes(request), bytes(response), known)
}"""
CHECK_REPORTS = """async ([reports, expected]) => {
  const { checkReport, sameMeasurements } = await import("/proof-page/attestation.js")
  const found = []
  for (const algo in reports) found.push(await checkReport(algo, reports[algo], expected[algo]))
  const same = await sameMeasurements(found.map((each) => each.quote))
  return { checks: [...found.flatMap((each) => each.checks), same], binds: found.map((each) => each.binds) }
}"""

Told = dict[str, Any]
Amend = Callable[[Any], object]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with the front page's modules at hand, and no server."""
    files = Path(front_page.__file__).with_name("pages")

    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name:
            route.fulfill(path=files / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    with browser.new_context() as context:
        context.route("http://localhost/**", serve)
        page = context.new_page()
        page.goto("http://localhost/")
        yield page


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform()


def flipped(digits: str, at: int) -> str:
    """Hex digits with one bit changed."""
    return f"{digits[:at]}{int(digits[at], 16) ^ 1:x}{digits[at + 1 :]}"


def marks(checks: list[dict[str, str]], status: str) -> set[str]:
    return {check["name"] for check in checks if check["status"] == status}


def signatures(keys: SigningKeys, text: str = HASHES) -> Told:
    """What the server answers for each algorithm."""
    signed = sign_text(keys, text)
    return {
        "ecdsa": {
            "text": text,
            "signature": signed["signature_ecdsa"],
            "signing_address": signed["signing_address_ecdsa"],
            "signing_algo": "ecdsa",
        },
        "ed25519": {
            "text": text,
            "signature": signed["signature_ed25519"],
            "signing_address": signed["signing_address_ed25519"],
            "signing_algo": "ed25519",
        },
    }


def check_exchange(
    page: Page,
    keys: SigningKeys,
    told: Told,
    bodies: tuple[bytes | None, bytes | None] = (REQUEST, RESPONSE),
    attested: Mapping[str, bool] | None = None,
) -> Any:
    known = {
        "model": MODEL,
        "addresses": {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address},
        "attested": attested,
    }
    texts = [None if body is None else body.decode() for body in bodies]
    return page.evaluate(CHECK_EXCHANGE, [{algo: json.dumps(each) for algo, each in told.items()}, *texts, known])


@pytest.mark.parametrize("text", [HASHES, f"{MODEL}:{HASHES}"], ids=["hashes", "model"])
def test_a_true_exchange_holds(page: Page, keys: SigningKeys, text: str) -> None:
    found = check_exchange(page, keys, signatures(keys, text), attested={"ecdsa": True, "ed25519": True})
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("to exactly this request.")
    assert marks(found["checks"], "not made") == {"ecdsa signature"}
    found = check_exchange(page, keys, signatures(keys, text))
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["text"].endswith("Whose they are, the attestation above tells.")
    assert marks(found["checks"], "not made") == {"ecdsa signature", "keys attested"}


@pytest.mark.parametrize("attested", [(True, False), (False, True), (False, False)])
def test_keys_that_no_quote_is_about_are_not_attested(
    page: Page, keys: SigningKeys, attested: tuple[bool, bool]
) -> None:
    bound = {"ecdsa": attested[0], "ed25519": attested[1]}
    found = check_exchange(page, keys, signatures(keys), attested=bound)
    assert marks(found["checks"], "fails") == {"keys attested"}
    assert found["verdict"]["holds"] is False


@pytest.mark.parametrize(
    ("bodies", "missing"),
    [((REQUEST, None), "the response"), ((None, RESPONSE), "the request"), ((None, None), "the request and the resp")],
)
def test_what_was_not_given_is_not_said_to_match(
    page: Page, keys: SigningKeys, bodies: tuple[bytes | None, bytes | None], missing: str
) -> None:
    verdict = check_exchange(page, keys, signatures(keys), bodies)["verdict"]
    assert verdict["holds"] is None
    assert f"give {missing}" in verdict["text"]


def test_another_byte_does_not_match(page: Page, keys: SigningKeys) -> None:
    for bodies, name in (((REQUEST + b" ", RESPONSE), "request hash"), ((REQUEST, RESPONSE[:-1]), "response hash")):
        found = check_exchange(page, keys, signatures(keys), bodies)
        assert (marks(found["checks"], "fails"), found["verdict"]["holds"]) == ({name}, False)
    swapped = check_exchange(page, keys, signatures(keys), (RESPONSE, REQUEST))
    assert marks(swapped["checks"], "fails") == {"request hash", "response hash"}


ALL_HASHES = {"signed text", "request hash", "response hash"}
THEIR_OWN = SigningKeys.from_secrets(b"\1" * 32, b"\2" * 32)

SIGNATURE_LIES: dict[str, tuple[Callable[[Told], object], set[str]]] = {
    "text": (
        lambda told: [each.update(text=flipped(each["text"], 3)) for each in told.values()],
        {"request hash", "ed25519 signature"},
    ),
    "text of one": (
        lambda told: told["ecdsa"].update(text=flipped(told["ecdsa"]["text"], 3)),
        ALL_HASHES,
    ),
    "signature": (
        lambda told: told["ed25519"].update(signature=flipped(told["ed25519"]["signature"], 70)),
        {"ed25519 signature"},
    ),
    "short signature": (lambda told: told["ed25519"].update(signature="00"), {"ed25519 signature"}),
    "other keys": (lambda told: told.update(signatures(THEIR_OWN)), {"ed25519 signature", "ecdsa signer"}),
    "other keys, these names": (
        lambda told: told["ed25519"].update(signature=signatures(THEIR_OWN)["ed25519"]["signature"]),
        {"ed25519 signature"},
    ),
    "more than hashes": (
        lambda told: [each.update(text=each["text"] + "0") for each in told.values()],
        {*ALL_HASHES, "ed25519 signature"},
    ),
    "rubbish": (
        lambda told: [each.update(text=["?"], signature=7, signing_address=None) for each in told.values()],
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer"},
    ),
    "nothing": (
        lambda told: told.update(ecdsa=None, ed25519=None),
        {*ALL_HASHES, "ed25519 signature", "ecdsa signer"},
    ),
}


@pytest.mark.parametrize("lie", SIGNATURE_LIES)
def test_a_lie_about_a_signature_is_found(page: Page, keys: SigningKeys, lie: str) -> None:
    tell, failing = SIGNATURE_LIES[lie]
    told = signatures(keys)
    tell(told)
    found = check_exchange(page, keys, told)
    assert marks(found["checks"], "fails") == failing
    assert found["verdict"]["holds"] is False
    assert all(name in found["verdict"]["text"] for name in failing)


def test_a_signature_for_another_model_is_found(page: Page, keys: SigningKeys) -> None:
    found = check_exchange(page, keys, signatures(keys, f"small/model:{HASHES}"))
    assert marks(found["checks"], "fails") == ALL_HASHES
    assert "small/model" in str(found["checks"])


def true_reports(keys: SigningKeys, platform: SimulatedPlatform, nonce: bytes = NONCE) -> dict[str, Any]:
    """A report about each key, of one TD with a GPU."""
    measured = TdMeasurements(b"\1" * 48, (b"\2" * 48, b"\3" * 48, b"\4" * 48, b"\5" * 48))

    class Evidence:
        def quote(self, report_data: bytes) -> Quote:
            return Quote(platform.quote(measured, report_data).hex(), [])

        def info(self) -> dict[str, Any]:
            return {}

    def gpu(nonce: str) -> str:
        evidence = base64.b64encode(b"\x11\xe0\1\xff" + bytes.fromhex(nonce) + b"\0" + b"measured").decode()
        return json.dumps({"nonce": nonce, "evidence_list": [{"evidence": evidence}], "arch": "HOPPER"})

    attestation = Attestation(keys, MODEL, Evidence(), gpu, dev=False, metrics=Metrics())
    return {algo: json.loads(attestation.report(ReportRequest(algo), nonce)) for algo in SIGNING_ALGOS}


def check_reports(page: Page, keys: SigningKeys, told: dict[str, Any]) -> Any:
    addresses = {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}
    expected = {algo: {"nonce": NONCE.hex(), "address": address} for algo, address in addresses.items()}
    return page.evaluate(CHECK_REPORTS, [{algo: json.dumps(each) for algo, each in told.items()}, expected])


def test_true_reports_hold_as_far_as_a_browser_can_tell(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform
) -> None:
    found = check_reports(page, keys, true_reports(keys, platform))
    assert found["binds"] == [True, True]
    assert marks(found["checks"], "fails") == set()
    assert marks(found["checks"], "not made") == {"ecdsa quote signature", "ed25519 quote signature"}
    kinds = ("key", "address bound", "nonce", "TD debug", "GPU nonce")
    expected = {f"{algo} {kind}" for algo in SIGNING_ALGOS for kind in kinds}
    assert marks(found["checks"], "holds") == {*expected, "measurements"}


def quote_lie(at: int) -> Amend:
    return lambda report: report.update(intel_quote=flipped(report["intel_quote"], at))


def gpu_lie(**values: Any) -> Amend:
    return lambda report: report.update(nvidia_payload=json.dumps(json.loads(report["nvidia_payload"]) | values))


UNREADABLE = {"report", "measurements"}
REPORT_LIES: dict[str, tuple[Amend, set[str]]] = {
    "address in the quote": (quote_lie(REPORT_DATA), {"address bound"}),
    "padding of the address": (quote_lie(REPORT_DATA + 41), {"address bound"}),
    "nonce in the quote": (quote_lie(ITS_NONCE), {"nonce"}),
    "nonce of the report": (lambda report: report.update(request_nonce="00" * 32), {"nonce"}),
    "debug": (quote_lie(ATTRIBUTES + 1), {"TD debug"}),
    "other firmware": (quote_lie(MRTD), {"measurements"}),
    "other app": (quote_lie(RTMR3), {"measurements"}),
    "key": (lambda report: report.update(signing_address="0x" + "00" * 20), {"key"}),
    "no key": (lambda report: report.pop("signing_address"), {"key"}),
    "development": (lambda report: report.update(dev=True), {"keys"}),
    "an enclave's quote": (quote_lie(TEE_TYPE), UNREADABLE),
    "half a quote": (lambda report: report.update(intel_quote=report["intel_quote"][:1000]), UNREADABLE),
    "a quote that is not hex": (lambda report: report.update(intel_quote="zz" * 1000), UNREADABLE),
    "no quote": (lambda report: report.pop("intel_quote"), UNREADABLE),
    "nothing": (lambda report: report.clear(), UNREADABLE),
    "GPU nonce": (gpu_lie(nonce="00" * 32), {"GPU nonce"}),
    "no GPU": (gpu_lie(evidence_list=[]), {"GPU nonce"}),
    "an odd GPU": (gpu_lie(evidence_list=[{"evidence": "AAAA"}]), {"GPU nonce"}),
    "no base64": (gpu_lie(evidence_list=[{"evidence": "?"}]), {"GPU nonce"}),
    "GPU evidence for another nonce": (
        gpu_lie(evidence_list=[{"evidence": base64.b64encode(b"\x11\xe0" + bytes(60)).decode()}]),
        {"GPU nonce"},
    ),
    "no payload": (lambda report: report.update(nvidia_payload=None), {"GPU nonce"}),
}
SPEAKS_OF_NO_KEY = {"measurements", "GPU nonce"}


@pytest.mark.parametrize(
    ("lie", "algo"),
    [
        (lie, algo)
        for lie in REPORT_LIES
        for algo in SIGNING_ALGOS
        if (lie, algo) != ("padding of the address", "ed25519")  # which has none
    ],
)
def test_a_lie_about_a_report_is_found(
    page: Page, keys: SigningKeys, platform: SimulatedPlatform, lie: str, algo: str
) -> None:
    tell, failing = REPORT_LIES[lie]
    told = true_reports(keys, platform)
    tell(told[algo])
    found = check_reports(page, keys, told)
    expected = {name if name == "measurements" else f"{algo} {name}" for name in failing}
    assert marks(found["checks"], "fails") == expected
    bound = failing <= SPEAKS_OF_NO_KEY
    assert found["binds"] == [bound if each == algo else True for each in SIGNING_ALGOS]


def test_an_old_report_is_found(page: Page, keys: SigningKeys, platform: SimulatedPlatform) -> None:
    found = check_reports(page, keys, true_reports(keys, platform, bytes(32)))
    assert found["binds"] == [False, False]
    nonces = {f"{algo} {what}" for algo in SIGNING_ALGOS for what in ("nonce", "GPU nonce")}
    assert marks(found["checks"], "fails") == nonces
