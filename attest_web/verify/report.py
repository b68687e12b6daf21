"""All checks of one attestation report."""

from collections.abc import Callable
from functools import cached_property

from attest_web.report_data import NONCE_BYTES
from attest_web.signatures import SigningAlgo
from attest_web.verify import binding, event_log, gpu, quote
from attest_web.verify.checks import Check, FailedError, NotMadeError, Status, make, not_asked
from attest_web.verify.exchange import address_bytes, shown_address, signing_algo
from attest_web.verify.gpu import GpuDemand, GpuPayload
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.untrusted_json import (
    JsonObject,
    as_object,
    hex_bytes,
    items,
    member,
    parse_json,
    parse_object,
    text,
)

_WHAT = "the report"


class Report:
    """A report, its fields read where they are asked for. Every one raises `FailedError` where it is malformed."""

    def __init__(self, source: JsonObject) -> None:
        self._source = source

    @classmethod
    def parse(cls, data: bytes) -> "Report":
        """Read a report.

        Raises:
            FailedError: It is not a JSON object.
        """
        return cls(parse_object(data, _WHAT))

    @property
    def dev(self) -> bool:
        """Whether it says that its keys are those of a developer's machine."""
        return self._source.get("dev") not in (None, False)

    @property
    def holds_canned_evidence(self) -> bool:
        """Whether its GPU evidence is NVIDIA's canned one."""
        try:
            return gpu.CANNED_NONCE in self.gpu_payload.evidence_nonces
        except FailedError:
            return False

    @cached_property
    def algo(self) -> SigningAlgo:
        """The algorithm of the key that it is about."""
        return signing_algo(self._source, _WHAT)

    @cached_property
    def address(self) -> bytes:
        """The address that it is about, 20 or 32 bytes."""
        return address_bytes(self.algo, text(self._source, "signing_address", _WHAT))

    @cached_property
    def public_key(self) -> bytes:
        """The public key that it is about, 64 or 32 bytes."""
        return hex_bytes(
            text(self._source, "signing_public_key", _WHAT), "signing_public_key", binding.PUBLIC_KEY_BYTES[self.algo]
        )

    @cached_property
    def nonce(self) -> bytes:
        """The 32 bytes that it says it was made with."""
        return hex_bytes(text(self._source, "request_nonce", _WHAT), "request_nonce", NONCE_BYTES)

    @cached_property
    def tls_key(self) -> bytes | None:
        """SHA-256 of the SPKI of the TLS certificate that it is about, if it is about one."""
        if self._source.get("tls_cert_fingerprint") is None:
            return None
        fingerprint = text(self._source, "tls_cert_fingerprint", _WHAT)
        return hex_bytes(fingerprint, "tls_cert_fingerprint", binding.SHA256_BYTES)

    @cached_property
    def quote_bytes(self) -> bytes:
        """The quote."""
        return hex_bytes(text(self._source, "intel_quote", _WHAT), "intel_quote")

    @cached_property
    def quote(self) -> quote.TdxQuote:
        """The quote, read."""
        return quote.TdxQuote.parse(self.quote_bytes)

    @cached_property
    def events(self) -> list[event_log.Event]:
        """The event log, which is a list or the JSON text of one: NEAR AI's gateway passes on what dstack says."""
        entries = self._source.get("event_log")
        source = {"event_log": parse_json(entries, "event_log")} if isinstance(entries, str) else self._source
        return event_log.parse_event_log(items(source, "event_log", _WHAT))

    @cached_property
    def app_compose(self) -> str:
        """The compose file of `info.tcb_info`, which is an object or the JSON text of one."""
        tcb_info = member(as_object(member(self._source, "info", _WHAT), "info"), "tcb_info", "info")
        if isinstance(tcb_info, str):
            tcb_info = parse_object(tcb_info, "tcb_info")
        return text(as_object(tcb_info, "tcb_info"), "app_compose", "tcb_info")

    @cached_property
    def gpu_payload(self) -> GpuPayload:
        """The GPU evidence."""
        return GpuPayload.parse(text(self._source, "nvidia_payload", _WHAT))


def check_report(name: str, report: Report, expected: Expected, policy: Policy) -> list[Check]:
    """Make all checks of a report.

    Args:
        name: First word of the names of the checks, usually the algorithm.
        report: The report.
        expected: What it must be about.
        policy: What the verifier demands.
    """
    return [
        *_key_checks(name, report, expected),
        *_dev_checks(name, report, policy),
        *_quote_checks(name, report, policy),
        *_measurement_checks(name, report, policy),
        *_gpu_checks(name, report, expected, policy),
    ]


def _key_checks(name: str, report: Report, expected: Expected) -> list[Check]:
    def key_attested() -> str:
        if not expected.signers:
            raise NotMadeError(f"no {report.algo} signature to hold it against")
        shown = shown_address(report.algo, report.address)
        if report.address not in expected.signers:
            raise FailedError(f"it attests {shown}, which has not signed this")
        return f"{shown} has signed, and is attested"

    def public_key() -> str:
        return binding.check_public_key(report.algo, report.public_key, report.address)

    def address_bound() -> str:
        return binding.check_address_bound(
            report.algo, report.address, report.nonce, report.tls_key, report.quote.report_data
        )

    def nonce() -> str:
        wanted = expected.nonce if expected.nonce is not None else report.nonce
        quoted = report.quote.report_data[32:]
        if report.nonce != wanted or quoted != wanted:
            other = quoted if quoted != wanted else report.nonce
            raise FailedError(f"it was made for the nonce {other.hex()}, not for {wanted.hex()}")
        return f"made for {wanted.hex()}"

    def tls_key() -> str:
        seen = expected.tls_keys or frozenset()
        if report.tls_key is None:
            raise FailedError("the report names no TLS key; the proxy needs TLS_CERT_PATH (--no-tls-binding leaves it)")
        if seen != {report.tls_key}:
            shown = ", ".join(sorted(key.hex() for key in seen)) or "none"
            raise FailedError(f"the report is about the TLS key {report.tls_key.hex()}, the server's is {shown}")
        return f"{address_bound()}; the server's key {report.tls_key.hex()}"

    nonce_check = make(f"{name} nonce", nonce)
    if expected.nonce is None and nonce_check.status is Status.PASSED:
        nonce_check = not_asked(nonce_check.name, "no --nonce to hold it against: this may be an old report")
    return [
        make(f"{name} key attested", key_attested)
        if expected.signers is not None
        else not_asked(f"{name} key attested", "no --signature to hold it against"),
        make(f"{name} public key", public_key),
        make(f"{name} address bound", address_bound),
        nonce_check,
        make(f"{name} TLS key", tls_key)
        if expected.tls_keys is not None
        else not_asked(f"{name} TLS key", "not asked for: no TLS connection to compare it with"),
    ]


def _dev_checks(name: str, report: Report, policy: Policy) -> list[Check]:
    # Nothing vouches for a report that does not say so, so there is no check that could pass.
    if not report.dev:
        return []
    if policy.allow_dev:
        return [not_asked(f"{name} keys", "not asked for: keys of a development run will do")]
    detail = "the report says that they are random ones of a development run (DEV=1); --allow-dev puts up with them"
    return [Check(f"{name} keys", Status.FAILED, detail)]


def _quote_checks(name: str, report: Report, policy: Policy) -> list[Check]:
    tcb_status = f"{name} TCB status"
    try:
        report.quote  # noqa: B018  # what is not a TDX quote must not pass as a quote of another kind
        verdict = policy.verify_quote(report.quote_bytes)
    except FailedError as error:
        signature = Check(f"{name} quote signature", Status.FAILED, str(error))
    except NotMadeError as error:
        signature = Check(f"{name} quote signature", Status.NOT_MADE, str(error))
    else:
        status = verdict.tcb_status + "".join(f", {advisory}" for advisory in verdict.advisory_ids)

        def allowed() -> str:
            if verdict.tcb_status not in policy.allowed_tcb:
                raise FailedError(f"{status}; --allow-tcb-status {verdict.tcb_status} puts up with it")
            return status

        signature = Check(f"{name} quote signature", Status.PASSED, "the certificate chain holds, up to the root")
        return [signature, make(tcb_status, allowed)]
    return [signature, Check(tcb_status, Status.NOT_MADE, "the quote's signature does not vouch for it")]


def _measurement_checks(name: str, report: Report, policy: Policy) -> list[Check]:
    def rtmr(register: int) -> Callable[[], str]:
        return lambda: event_log.check_replay(report.events, register, report.quote, policy.rtmrs.get(register))

    def compose() -> str:
        # Of another log than the one that happened, nothing can be learnt.
        event_log.check_replay(report.events, event_log.RUNTIME_REGISTER, report.quote)
        return event_log.check_compose(report.events, report.app_compose, policy.compose_hash)

    def mrtd() -> str:
        if report.quote.mrtd != policy.mrtd:
            raise FailedError(f"it is {report.quote.mrtd.hex()}, not the expected {(policy.mrtd or b'').hex()}")
        return f"{report.quote.mrtd.hex()}, as expected"

    return [
        make(f"{name} TD debug", lambda: quote.check_debug_off(report.quote)),
        *(make(f"{name} RTMR{register}", rtmr(register)) for register in range(event_log.REGISTERS)),
        make(f"{name} compose hash", compose),
        make(f"{name} MRTD", mrtd)
        if policy.mrtd is not None
        else not_asked(f"{name} MRTD", "not asked for; --expect-mrtd holds it against a known one"),
    ]


def _gpu_checks(name: str, report: Report, expected: Expected, policy: Policy) -> list[Check]:
    payload_nonce, evidence_nonce, nvidia = f"{name} GPU nonce", f"{name} GPU evidence", f"{name} NVIDIA verdict"
    if policy.gpu is GpuDemand.NONE:
        return [not_asked(each, "not asked for (--gpu none)") for each in (payload_nonce, evidence_nonce, nvidia)]

    def nonce() -> bytes:
        return expected.nonce if expected.nonce is not None else report.nonce

    def verdict() -> str:
        if policy.ask_nvidia is None:
            raise NotMadeError("--nvidia asks NVIDIA; --gpu unverified does without")
        return gpu.check_verdict(policy.ask_nvidia(report.gpu_payload.text), nonce())

    asked = make(nvidia, verdict)
    if policy.ask_nvidia is None and policy.gpu is not GpuDemand.REQUIRED:
        asked = not_asked(nvidia, f"not asked for (--gpu {policy.gpu}); --nvidia with --gpu required asks NVIDIA")

    def vouched_evidence() -> str:
        found = gpu.check_evidence_nonces(report.gpu_payload, nonce(), policy.gpu)
        if asked.status is not Status.PASSED:
            # Whoever knows the nonce can write it there: only NVIDIA can tell that a GPU has signed it.
            raise NotMadeError(f"{'' if asked.asked else 'not asked for; '}{found}, and nobody has vouched for it")
        return f"{found}, and NVIDIA vouches for it"

    evidence = make(evidence_nonce, vouched_evidence)
    if evidence.status is Status.NOT_MADE and policy.gpu is not GpuDemand.REQUIRED:
        evidence = not_asked(evidence_nonce, evidence.detail)
    return [
        make(payload_nonce, lambda: gpu.check_payload_nonce(report.gpu_payload, nonce())),
        evidence,
        asked,
    ]
