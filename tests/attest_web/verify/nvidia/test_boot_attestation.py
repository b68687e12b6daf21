import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.nvidia.boot_attestation import (
    MAX_GPU_INFO,
    GpuAttestation,
    canonical_policy,
    check_expected_gpu_policy,
    check_gpu_event,
    check_gpu_info,
    check_gpu_policy,
    check_same_gpus,
    gpu_info_ueids,
    policy_hash,
)
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from tests.attest_web.verify.nvidia.fake_nras import gpu_claims

UEID = "457723480349051719100670602112458195243836813799"
OTHER = "478176379286082186618948445787393647364802107249"


def info(*claims: object, **different: object) -> str:
    return json.dumps({"claims": list(claims), "detached_eat": [], "result_code": 0} | different) + "\n"


def event(gpu_info: str = "", **different: object) -> bytes:
    members = {"version": 2, "provider": "nvidia", "devices": 1, "cc_mode": "on", "devtools": False}
    members["evidence_sha256"] = hashlib.sha256(gpu_info.encode()).hexdigest()
    return json.dumps(members | different, separators=(",", ":")).encode()


@pytest.fixture
def measured(dstack_vectors: dict[str, Any]) -> bytes:
    """The event that a guest with a real H100 measures."""
    return bytes.fromhex(dstack_vectors["gpu"]["gpu_attestation_event_payload"])


@pytest.fixture
def printed(dstack_vectors: dict[str, Any]) -> str:
    """What `nvattest` has printed about it."""
    text: str = dstack_vectors["gpu"]["gpu_info_attestation"]
    return text


def test_real_gpu_matches_the_boot_attestation(measured: bytes, printed: str) -> None:
    assert GpuAttestation.parse(measured) == GpuAttestation(1, False, hashlib.sha256(printed.encode()).digest())
    assert "1 GPU(s)" in check_gpu_event(measured, 1)
    assert "b969d546" in check_gpu_info(measured, printed)
    assert gpu_info_ueids(printed, 1) == {UEID}
    assert "1 GPU(s)" in check_same_gpus(measured, printed, frozenset({UEID}))


@pytest.mark.parametrize("gpus", [0, 2, 8])
def test_gpu_count_other_than_at_boot_fails(measured: bytes, gpus: int) -> None:
    with pytest.raises(FailedError, match=f"1 GPUs at boot, but the report has evidence of {gpus}"):
        check_gpu_event(measured, gpus)


def test_gpu_in_devtools_mode_fails() -> None:
    assert GpuAttestation.parse(event(devtools=True)).devtools
    with pytest.raises(FailedError, match="DevTools"):
        check_gpu_event(event(devtools=True), 1)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (event(version=1), "version 1"),
        (event(version=3), "version 3"),
        (event(version="2"), "not an integer"),
        (event(version=True), "not an integer"),
        (event(provider="amd"), "NVIDIA"),
        (event(cc_mode="off"), "confidential computing is off"),
        (event(cc_mode=True), "not a string"),
        (event(devices=0), "0 GPUs"),
        (event(devices=65), "65 GPUs"),
        (event(devices=-1), "-1 GPUs"),
        (event(devices=1.0), "not an integer"),
        (event(devices=True), "not an integer"),
        (event(devtools=None), "no 'devtools'"),
        (event(devtools=0), "form"),
        (event(evidence_sha256="07" * 31), "31 bytes"),
        (event(evidence_sha256="AB" * 32), "form"),
        (event(evidence_sha256="zz" * 32), "not hex"),
        (event(more=1), "form"),
        (event().replace(b'"cc_mode":"on",', b""), "form"),
        (event().replace(b'"provider":"nvidia","devices":1,', b'"devices":1,"provider":"nvidia",'), "form"),
        (event().replace(b":1,", b": 1,"), "form"),
        (event() + b"\n", "form"),
        (event().replace(b"nvidia", b"\\u006evidia"), "form"),
        (event().replace(b"nvidia", b"\\ud800"), "form"),
        (event().decode().encode("utf-16"), "not UTF-8"),
        (event().replace(b'"devices":1', b'"devices":2,"devices":1'), "more than one 'devices'"),
    ],
)
def test_malformed_gpu_attestation_event_fails(payload: bytes, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        GpuAttestation.parse(payload)


@settings(deadline=None)
@given(
    st.binary()
    | st.builds(
        lambda at, byte: event()[:at] + bytes([byte]) + event()[at + 1 :],
        st.integers(0, len(event()) - 1),
        st.integers(0, 255),
    )
)
def test_gpu_attestation_of_any_bytes_fails_or_is_in_canonical_form(payload: bytes) -> None:
    try:
        read = GpuAttestation.parse(payload)
    except FailedError:
        return
    assert payload == event(devices=read.devices, devtools=read.devtools, evidence_sha256=read.evidence_sha256.hex())


@pytest.mark.parametrize("change", [str.strip, lambda text: text + "\n", lambda text: text.replace("1111", "1112", 1)])
def test_gpu_info_other_than_the_measured_one_fails(
    measured: bytes, printed: str, change: Callable[[str], str]
) -> None:
    with pytest.raises(FailedError, match="has the SHA-256"):
        check_gpu_info(measured, change(printed))
    with pytest.raises(FailedError, match="has the SHA-256"):
        check_same_gpus(measured, change(printed), frozenset({UEID}))


def test_gpu_info_that_is_too_long_or_not_unicode_fails(measured: bytes) -> None:
    for text, why in (("\ud800", "Unicode"), (" " * (MAX_GPU_INFO + 1), "longer")):
        with pytest.raises(FailedError, match=why):
            check_gpu_info(measured, text)


@pytest.mark.parametrize("ueids", [{OTHER}, {UEID, OTHER}, set()])
def test_gpu_ids_other_than_at_boot_fail(measured: bytes, printed: str, ueids: set[str]) -> None:
    with pytest.raises(FailedError, match="not those that the guest has checked"):
        check_same_gpus(measured, printed, frozenset(ueids))


def test_gpu_order_does_not_matter() -> None:
    both = info(gpu_claims(OTHER), gpu_claims(UEID))
    assert check_same_gpus(event(both, devices=2), both, frozenset({UEID, OTHER}))
    with pytest.raises(FailedError, match=f"not those .*: {OTHER}"):
        check_same_gpus(event(both, devices=2), both, frozenset({UEID}))


@pytest.mark.parametrize(
    ("gpu_info", "why"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        (info(), "0 GPUs"),
        (info(gpu_claims(UEID), gpu_claims(OTHER)), "2 GPUs"),
        (info(1), "claim 0 of gpu_info is not a JSON object"),
        (info(gpu_claims(UEID), result_code=1), "result code 1"),
        (info(gpu_claims(UEID), result_code=None), "no 'result_code'"),
        (info(gpu_claims(UEID), claims={}), "not a list"),
        (info(gpu_claims(UEID) | {"measres": "fail"}), "measurements"),
        (info(gpu_claims(UEID) | {"secboot": False}), "securely"),
        (info(gpu_claims(UEID) | {"dbgstat": "enabled"}), "debugging"),
        (info(gpu_claims(UEID) | {"x-nvidia-device-type": "nvswitch"}), "another device"),
        (info(gpu_claims("0")), "decimal"),
        (info(gpu_claims(UEID)).replace('"claims"', '"claims": [], "claims"'), "more than one 'claims'"),
    ],
)
def test_gpu_info_with_invalid_or_failed_claims_fails(gpu_info: str, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        check_same_gpus(event(gpu_info), gpu_info, frozenset({UEID}))


def test_gpu_listed_twice_in_gpu_info_fails() -> None:
    twice = info(gpu_claims(UEID), gpu_claims(UEID))
    with pytest.raises(FailedError, match="another claim is about"):
        check_same_gpus(event(twice, devices=2), twice, frozenset({UEID}))


def test_gpu_checks_without_their_evidence_are_not_made(measured: bytes, printed: str) -> None:
    findings: list[tuple[Callable[[], str], str]] = [
        (lambda: check_gpu_event(None, 1), "checked no GPU at boot"),
        (lambda: check_gpu_info(None, printed), "checked no GPU at boot"),
        (lambda: check_gpu_info(measured, None), "no gpu_info"),
        (lambda: check_same_gpus(None, printed, frozenset()), "checked no GPU at boot"),
        (lambda: check_same_gpus(measured, None, frozenset()), "no gpu_info"),
        (lambda: check_same_gpus(measured, printed, None), "not verified"),
        (lambda: check_gpu_policy(None, "{}"), "no GPU policy"),
        (lambda: check_expected_gpu_policy(None, [b"\7" * 32]), "no GPU policy"),
    ]
    for finding, why in findings:
        with pytest.raises(NotMadeError, match=why):
            finding()


def test_gpu_policy_hash_matches_dstacks(dstack_vectors: dict[str, Any]) -> None:
    of_policy = dict(dstack_vectors["gpu"]["policy_hash"])
    absent = bytes.fromhex(of_policy.pop("absent or {}"))
    for compose in ("{}", '{"requirements": {}}', '{"requirements": null}', '{"requirements": {"gpu_policy": {}}}'):
        assert policy_hash(compose) == absent
    assert of_policy
    for policy, digest in of_policy.items():
        compose = json.dumps({"requirements": {"gpu_policy": json.loads(policy)}}, indent=1)
        assert policy_hash(compose).hex() == digest
        assert digest in check_gpu_policy(bytes.fromhex(digest), compose)
        with pytest.raises(FailedError, match="hash"):
            check_gpu_policy(absent, compose)


def test_gpu_policy_hash_must_be_one_of_the_expected() -> None:
    assert check_expected_gpu_policy(b"\1" * 32, [b"\2" * 32, b"\1" * 32])
    for expected in ([b"\2" * 32], []):
        with pytest.raises(FailedError, match="not an expected one"):
            check_expected_gpu_policy(b"\1" * 32, expected)


@pytest.mark.parametrize(
    ("policy", "canonical"),
    [
        (None, b"null"),
        ({}, b"{}"),
        ({"b": True, "a": None, "B": False}, b'{"B":false,"a":null,"b":true}'),
        ({"n": -(2**53 - 1)}, b'{"n":-9007199254740991}'),
        # RFC 8785, 3.2.2.2: what is escaped, and how.
        (
            {"s": '\x08\t\n\x0c\r"\\/\x0f\x1f\x7f€ö\u2028'},
            '{"s":"\\b\\t\\n\\f\\r\\"\\\\/\\u000f\\u001f\x7f€ö\u2028"}'.encode(),
        ),
    ],
)
def test_canonical_gpu_policy_follows_rfc_8785(policy: object, canonical: bytes) -> None:
    assert canonical_policy(policy) == canonical


@pytest.mark.parametrize(
    "policy",
    [
        1,
        "x",
        [],
        {"a": 1.5},
        {"a": 1.0},
        {"a": 2**53},
        {"a": -(2**53)},
        {"a": {}},
        {"a": []},
        {"ä": 1},
        {"a": "\ud800"},
    ],
)
def test_gpu_policy_with_unsupported_values_fails(policy: object) -> None:
    with pytest.raises(FailedError, match="GPU policy"):
        canonical_policy(policy)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=127)),
        st.none() | st.booleans() | st.text('a"\\\n\x00é') | st.integers(-9, 9),
    )
)
def test_canonical_gpu_policy_does_not_depend_on_member_order(policy: dict[str, object]) -> None:
    canonical = canonical_policy(policy)
    assert json.loads(canonical) == policy
    assert canonical_policy(dict(reversed(policy.items()))) == canonical
