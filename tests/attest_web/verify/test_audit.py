"""Each kind of lie in a body of evidence, and which check tells it."""

import base64
import json
from typing import Any

import pytest

from attest_web.verify.audit import DEV_KEYS, UNPINNED_GUEST, UNVERIFIED_GPU, Audit, check_evidence
from attest_web.verify.checks import NotMadeError, Status
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.evidence import Evidence, Saying
from attest_web.verify.exchange import Exchange
from attest_web.verify.gpu import GpuDemand
from attest_web.verify.policy import Policy
from tests.attest_web.verify.minting import (
    COMPOSE_HASH,
    MRTD,
    NONCE,
    OTHER_KEYS,
    REQUEST,
    RESPONSE,
    SPKI,
    QuoteBook,
    evidence,
    gpu_payload,
    registers,
    report,
    signature,
)


def audit(*reports: dict[str, Any], about: Evidence | None = None, verdict: str = "UpToDate", **policy: Any) -> Audit:
    shown = reports or (report("ecdsa"), report("ed25519"))
    book = QuoteBook(*shown, verdict=QuoteVerdict(verdict))
    demands: dict[str, Any] = {"verify_quote": book, "ask_nvidia": lambda _: nras()}
    return check_evidence(about or evidence(*shown), Policy(**(demands | policy)))


def wrong(found: Audit) -> set[str]:
    return {check.name for check in found.checks if not check.holds}


def status(found: Audit, name: str) -> Status:
    (check,) = (check for check in found.checks if check.name == name)
    return check.status


def test_evidence_that_holds_passes_and_what_was_not_asked_for_is_listed_as_not_made() -> None:
    found = audit()
    assert found.ok
    assert found.warnings == [UNPINNED_GUEST]
    not_made = {check.name.partition(" ")[2] for check in found.checks if check.status is Status.NOT_MADE}
    assert not_made == {"TLS key", "MRTD"}
    assert sum(check.status is Status.PASSED for check in found.checks) == 2 * (3 + 15)


@pytest.mark.parametrize(
    ("told", "reports"),
    [
        ({"ecdsa key attested", "ed25519 key attested"}, [report(keys=OTHER_KEYS), report("ed25519", keys=OTHER_KEYS)]),
        ({"ecdsa nonce", "ecdsa GPU nonce", "ecdsa GPU evidence"}, [report(nonce=b"\7" * 32)]),
        ({"ecdsa nonce", "ecdsa address bound"}, []),
        ({"ecdsa address bound"}, [report(tls_cert_fingerprint=SPKI.hex())]),
        ({"ecdsa public key"}, [report(signing_public_key=OTHER_KEYS.ecdsa_public_key.hex())]),
        ({"ecdsa TD debug"}, [report(attributes=b"\1\0\0\x10\0\0\0\0")]),
        ({"ecdsa RTMR3", "ecdsa compose hash"}, [report(event_log=report()["event_log"][:-1])]),
        ({"ecdsa RTMR0"}, [report(event_log=report()["event_log"][1:])]),
        ({"ecdsa compose hash"}, [report(info={"tcb_info": {"app_compose": "{}"}})]),
        ({"ecdsa GPU nonce", "ecdsa GPU evidence"}, [report(nvidia_payload=gpu_payload(b"\7" * 32))]),
        ({"ecdsa GPU evidence"}, [report(nvidia_payload=gpu_payload(evidence_nonce=b"\7" * 32))]),
        ({"ecdsa GPU evidence"}, [report(canned_gpu=True)]),
    ],
)
def test_a_lie_is_told_by_the_check_that_is_there_for_it(told: set[str], reports: list[dict[str, Any]]) -> None:
    if not reports:  # a quote of the same TD about something else
        reports = [report(intel_quote=report(keys=OTHER_KEYS, nonce=b"\7" * 32)["intel_quote"])]
    if len(reports) == 1:
        reports = [*reports, report("ed25519")]
    found = audit(*reports)
    assert wrong(found) == told
    assert not found.ok


def test_an_event_log_may_come_as_the_text_of_one() -> None:
    log = report()["event_log"]
    assert audit(report(event_log=json.dumps(log)), report("ed25519")).ok
    assert wrong(audit(report(event_log=json.dumps(log[1:])), report("ed25519"))) == {"ecdsa RTMR0"}
    for nonsense in ("", "[", "{}", '"[]"'):
        assert "ecdsa RTMR3" in wrong(audit(report(event_log=nonsense), report("ed25519")))


def test_a_quote_that_nobody_has_signed_fails_and_leaves_its_tcb_open() -> None:
    found = check_evidence(evidence(), Policy(QuoteBook(report("ed25519")), gpu=GpuDemand.UNVERIFIED))
    assert status(found, "ecdsa quote signature") is Status.FAILED
    assert status(found, "ecdsa TCB status") is Status.NOT_MADE
    assert wrong(found) == {"ecdsa quote signature", "ecdsa TCB status"}


def test_collateral_that_cannot_be_had_leaves_the_quote_open_and_that_is_no_pass() -> None:
    def verify_quote(quote: bytes) -> QuoteVerdict:
        raise NotMadeError("no collateral")

    found = check_evidence(evidence(), Policy(verify_quote))
    assert status(found, "ecdsa quote signature") is Status.NOT_MADE
    assert not found.ok


def test_a_tcb_that_is_not_up_to_date_passes_only_where_it_is_put_up_with() -> None:
    assert wrong(audit(verdict="OutOfDate")) == {"ecdsa TCB status", "ed25519 TCB status"}
    assert audit(verdict="OutOfDate", allowed_tcb=frozenset({"UpToDate", "OutOfDate"})).ok
    assert not audit(verdict="Revoked", allowed_tcb=frozenset({"UpToDate", "OutOfDate"})).ok


def test_expected_measurements() -> None:
    assert audit(compose_hash=COMPOSE_HASH, mrtd=MRTD).ok
    assert wrong(audit(compose_hash=b"\0" * 32)) == {"ecdsa compose hash", "ed25519 compose hash"}
    assert wrong(audit(mrtd=b"\0" * 48)) == {"ecdsa MRTD", "ed25519 MRTD"}


def test_a_guest_image_that_is_not_pinned_is_warned_of() -> None:
    rtmrs = dict(enumerate(registers(report()["event_log"])[:3]))
    pinned = audit(mrtd=MRTD, rtmrs=rtmrs)
    assert pinned.ok
    assert not pinned.warnings
    assert all(", as expected" in c.detail for c in pinned.checks if c.name[-5:] in ("RTMR0", "RTMR1", "RTMR2"))
    assert audit(rtmrs=rtmrs).warnings == [UNPINNED_GUEST]
    for register in rtmrs:
        others = {other: value for other, value in rtmrs.items() if other != register}
        assert audit(mrtd=MRTD, rtmrs=others).warnings == [UNPINNED_GUEST]
        found = audit(mrtd=MRTD, rtmrs=rtmrs | {register: b"\7" * 48})
        assert wrong(found) == {f"ecdsa RTMR{register}", f"ed25519 RTMR{register}"}


@pytest.mark.parametrize("missing", sorted(set(report()) - {"model_name"}))
def test_a_report_without_one_of_its_fields_never_holds(missing: str) -> None:
    bent = {name: value for name, value in report().items() if name != missing}
    policy = Policy(QuoteBook(report(), report("ed25519")), gpu=GpuDemand.UNVERIFIED)
    found = check_evidence(evidence(bent, report("ed25519")), policy)
    assert not found.ok


def test_tcb_info_may_be_the_text_of_an_object() -> None:
    made = report(info={"tcb_info": json.dumps(report()["info"]["tcb_info"])})
    assert audit(made, report("ed25519")).ok


def test_the_tls_key_has_to_be_the_one_that_the_server_shows() -> None:
    bound = report(spki=SPKI), report("ed25519", spki=SPKI)
    assert audit(*bound, about=evidence(*bound, tls_keys=frozenset({SPKI}))).ok
    other = audit(*bound, about=evidence(*bound, tls_keys=frozenset({b"\7" * 32})))
    assert wrong(other) == {"ecdsa TLS key", "ed25519 TLS key"}
    two_servers = audit(*bound, about=evidence(*bound, tls_keys=frozenset({SPKI, b"\7" * 32})))
    assert wrong(two_servers) == {"ecdsa TLS key", "ed25519 TLS key"}
    unbound = audit(about=evidence(tls_keys=frozenset({SPKI})))
    assert wrong(unbound) == {"ecdsa TLS key", "ed25519 TLS key"}
    # The report names the server's key, but the quote does not carry it.
    claimed = report(tls_cert_fingerprint=SPKI.hex()), report("ed25519", spki=SPKI)
    found = audit(*claimed, about=evidence(*claimed, tls_keys=frozenset({SPKI})))
    assert wrong(found) == {"ecdsa TLS key", "ecdsa address bound"}


def test_without_a_nonce_of_its_own_a_verifier_is_told_that_a_report_may_be_old() -> None:
    found = audit(about=evidence(nonce=None))
    assert found.ok
    assert status(found, "ecdsa nonce") is Status.NOT_MADE
    other = report(request_nonce="07" * 32)
    assert status(audit(other, about=evidence(other, nonce=None)), "ecdsa nonce") is Status.FAILED


def test_a_signature_without_a_report_about_its_key_is_left_open() -> None:
    found = audit(report("ecdsa"))
    assert wrong(found) == {"ed25519 key attested"}
    assert status(found, "ed25519 key attested") is Status.NOT_MADE
    missing = check_evidence(evidence(reports=[]), Policy(QuoteBook()))
    assert wrong(missing) == {"ecdsa key attested", "ed25519 key attested"}


def sayings(*answers: dict[str, Any]) -> list[Saying]:
    return [Saying(json.dumps(answer).encode()) for answer in answers]


def test_a_second_signer_does_not_hide_behind_one_whose_key_is_attested() -> None:
    both = sayings(signature(), signature(keys=OTHER_KEYS))
    for signatures in (both, both[::-1]):
        found = audit(report(), about=evidence(report(), signatures=signatures))
        assert status(found, "ecdsa signer") is Status.FAILED
        assert status(found, "ecdsa key attested") is Status.PASSED
        assert status(found, "ecdsa 2 key attested") is Status.NOT_MADE
        assert not found.ok
    reports = report(), report(keys=OTHER_KEYS)
    found = audit(*reports, about=evidence(*reports, signatures=both))
    assert wrong(found) == {"ecdsa signer"}


def test_answers_of_the_same_algorithm_are_told_apart_by_number() -> None:
    about = evidence(report(), report(), signatures=sayings(signature(), signature()))
    found = audit(report(), about=about)
    assert found.ok
    names = [check.name for check in found.checks]
    assert len(names) == len(set(names))
    assert {"ecdsa signature", "ecdsa 2 signature", "ecdsa quote signature", "ecdsa 2 quote signature"} <= set(names)


def test_the_algorithm_that_no_saved_signature_is_of_is_listed() -> None:
    for algo, other in (("ecdsa", "ed25519"), ("ed25519", "ecdsa")):
        made = signature("ecdsa" if algo == "ecdsa" else "ed25519")
        found = audit(about=evidence(reports=[], signatures=sayings(made), attestation_asked=False))
        assert found.ok
        assert status(found, f"{other} signature") is Status.NOT_MADE
        assert status(found, f"{algo} signature") is Status.PASSED


def test_signatures_alone_hold_where_no_attestation_is_asked_for() -> None:
    found = check_evidence(evidence(reports=[], attestation_asked=False), Policy(QuoteBook()))
    assert found.ok
    assert status(found, "attestation") is Status.NOT_MADE


def test_reports_alone_can_be_checked() -> None:
    found = audit(about=evidence(exchange=None, signatures=[]))
    assert found.ok
    assert status(found, "ecdsa key attested") is Status.NOT_MADE


def test_no_evidence_at_all_is_no_success() -> None:
    assert not check_evidence(Evidence(attestation_asked=False), Policy(QuoteBook())).ok


def test_an_answer_about_another_algorithm_than_was_asked_for_fails() -> None:
    ed25519 = json.dumps(signature("ed25519")).encode()
    about = evidence(signatures=[Saying(ed25519, "ecdsa")], reports=[Saying(json.dumps(report()).encode(), "ed25519")])
    assert {"ecdsa signature", "ed25519 report"} <= wrong(audit(about=about))


def test_a_changed_response_is_told_by_both_signatures() -> None:
    found = audit(about=evidence(exchange=Exchange(REQUEST, RESPONSE[:-1])))
    assert wrong(found) == {"ecdsa response hash", "ed25519 response hash"}


def test_keys_of_a_development_run_pass_only_by_name_and_are_warned_of() -> None:
    dev = report(dev=True), report("ed25519", dev=True)
    found = audit(*dev)
    assert wrong(found) == {"ecdsa keys", "ed25519 keys"}
    assert status(found, "ecdsa keys") is Status.FAILED
    assert DEV_KEYS in found.warnings
    allowed = audit(*dev, allow_dev=True)
    assert allowed.ok
    assert status(allowed, "ecdsa keys") is Status.NOT_MADE
    assert DEV_KEYS in allowed.warnings
    assert DEV_KEYS not in audit(report(dev=False), report("ed25519")).warnings
    assert wrong(audit(report(dev="no"), report("ed25519"))) == {"ecdsa keys"}


def test_canned_gpu_evidence_passes_only_by_name_and_never_as_made() -> None:
    canned = report(canned_gpu=True), report("ed25519", canned_gpu=True)
    found = audit(*canned, gpu=GpuDemand.CANNED, ask_nvidia=None)
    assert found.ok
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    assert found.warnings
    neither = report(nvidia_payload=gpu_payload(evidence_nonce=b"\7" * 32))
    assert not audit(neither, report("ed25519"), gpu=GpuDemand.CANNED, ask_nvidia=None).ok


def test_evidence_that_nobody_has_vouched_for_is_no_pass_where_gpus_are_required() -> None:
    # Its nonces are right, and no GPU has signed anything.
    found = audit(ask_nvidia=None)
    told = {f"{algo} {what}" for algo in ("ecdsa", "ed25519") for what in ("GPU evidence", "NVIDIA verdict")}
    assert wrong(found) == told
    assert status(found, "ecdsa NVIDIA verdict") is Status.NOT_MADE
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    details = {check.detail for check in found.checks if check.name.endswith("NVIDIA verdict")}
    assert details == {"--nvidia asks NVIDIA; --gpu unverified does without"}


def test_evidence_that_nvidia_rejects_is_not_made() -> None:
    assert status(audit(ask_nvidia=lambda _: nras(result=False)), "ecdsa GPU evidence") is Status.NOT_MADE


@pytest.mark.parametrize("demand", [GpuDemand.UNVERIFIED, GpuDemand.CANNED])
def test_unverified_gpu_evidence_passes_only_by_name_and_never_as_made(demand: GpuDemand) -> None:
    found = audit(ask_nvidia=None, gpu=demand)
    assert found.ok
    assert status(found, "ecdsa GPU evidence") is Status.NOT_MADE
    assert status(found, "ecdsa NVIDIA verdict") is Status.NOT_MADE
    assert UNVERIFIED_GPU in found.warnings
    for payload in (gpu_payload(b"\7" * 32), gpu_payload(evidence_nonce=b"\7" * 32)):
        bent = report(nvidia_payload=payload)
        assert "ecdsa GPU evidence" in wrong(audit(bent, report("ed25519"), ask_nvidia=None, gpu=demand))
    canned = report(canned_gpu=True), report("ed25519", canned_gpu=True)
    assert audit(*canned, ask_nvidia=None, gpu=demand).ok is (demand is GpuDemand.CANNED)


def test_without_gpus_nothing_is_said_of_them() -> None:
    without = report(nvidia_payload=None), report("ed25519", nvidia_payload=None)
    assert not audit(*without).ok
    assert audit(*without, gpu=GpuDemand.NONE).ok


def nras(result: object = True, nonce: object = NONCE.hex()) -> bytes:
    claims = json.dumps({"x-nvidia-overall-att-result": result, "eat_nonce": nonce}).encode()
    token = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    return json.dumps([["JWT", f"e30.{token}.c2ln"], {"GPU-0": "e30.e30.c2ln"}]).encode()


def test_nvidias_verdict() -> None:
    assert status(audit(ask_nvidia=lambda _: nras()), "ecdsa NVIDIA verdict") is Status.PASSED
    for answer in (nras(result=False), nras(result="true"), nras(result=1), nras(nonce="07" * 32), nras(nonce=None)):
        assert status(audit(ask_nvidia=lambda _, said=answer: said), "ecdsa NVIDIA verdict") is Status.FAILED


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"[]", b'[["JWT"]]', b'[["JWT","a"]]', b'[["JWT","a.!.c"]]', b'[["JWT","a.W10.c"]]', b"\xff"]
)
def test_what_is_no_verdict_leaves_it_open(answer: bytes) -> None:
    found = audit(ask_nvidia=lambda _: answer)
    assert status(found, "ecdsa NVIDIA verdict") is Status.NOT_MADE
    assert not found.ok
