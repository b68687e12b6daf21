"""Reports bent in every way that JSON can be: nothing escapes as an exception, and nothing malformed passes."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.audit import check_evidence
from attest_web.verify.command.output import as_json, as_text
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from tests.attest_web.verify.minting import (
    ALGOS,
    APP_COMPOSE,
    APP_ID,
    COMPOSE_HASH,
    KMS_ID,
    KMS_ROOT,
    OS_IMAGE_HASH,
    VM_CONFIG,
    QuoteBook,
    evidence,
    gpu_payload,
    report,
    signature,
)

Path = tuple[str | int, ...]

WHOLE = {algo: report(algo, vm_config=json.loads(VM_CONFIG)) for algo in ALGOS}
POLICY = Policy(
    QuoteBook(*WHOLE.values()),
    compose_hash=COMPOSE_HASH,
    os_image_hashes=frozenset({OS_IMAGE_HASH}),
    app_ids=frozenset({APP_ID}),
    key_providers=frozenset({KMS_ID}),
    kms_roots=frozenset({KMS_ROOT.public_key.format()}),
    gpu=GpuDemand.UNVERIFIED,
)

numbers = st.integers() | st.floats() | st.sampled_from([2**63, -1, 10**400])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=80) | st.text("0123456789abcdefABCDEFx ", max_size=140)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)

COUNTS_OF_VM_CONFIG = {"os_image_hash", "memory_size", "ovmf_variant", "tdx_attestation_variant", "tdx_measurement"}
FREE = {("model_name",), ("info", "app_name"), ("info", "tcb_info", "mrtd")} | {
    ("vm_config", name) for name in WHOLE["ecdsa"]["vm_config"] if name not in COUNTS_OF_VM_CONFIG
}
"""What nothing is concluded from: the quote's own MRTD counts. One version of QEMU is as good as many another."""


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from places(member, (*path, name))


def counts(path: Path) -> bool:
    if not path or path in FREE:
        return False
    if path[0] == "event_log" and len(path) == 3 and isinstance(path[1], int):
        event = WHOLE["ecdsa"]["event_log"][path[1]]
        return event["imr"] == 3 or event["event"].startswith("acpi-") or path[2] in ("imr", "digest")
    return True


PLACES = [path for path in places(WHOLE["ecdsa"]) if path]


def replaced(source: Any, path: Path, value: Any) -> Any:
    bent = copy.deepcopy(source)
    inner = bent
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return bent


def at(source: Any, path: Path) -> Any:
    for name in path:
        source = source[name]
    return source


def means_the_same(path: Path, old: Any, new: Any) -> bool:
    """Whether the values differ in spelling only: hex digits in another case, digests with zeros behind them.

    What need not be said may be left out: the app's id, and digests of the events of RTMR3.
    """
    if new is None and (path == ("app_id",) or (path[0] == "event_log" and path[-1] == "digest" and old == "")):
        return True
    if path in {("info",), ("info", "tcb_info")}:
        tcb_info = new.get("tcb_info") if path == ("info",) and isinstance(new, dict) else new
        return isinstance(tcb_info, dict) and tcb_info.get("app_compose") == APP_COMPOSE
    return isinstance(old, str) and isinstance(new, str) and old.lower().rstrip("0") == new.lower().rstrip("0")


def holds(about: Evidence) -> bool:
    found = check_evidence(about, POLICY)
    as_text(found, colours=True).encode()
    json.loads(as_json(found))
    return found.ok


def with_report(bent: Any) -> Evidence:
    return evidence(reports=[Statement(json.dumps(each).encode()) for each in (bent, WHOLE["ed25519"])])


def test_unmodified_report_used_by_these_tests_passes() -> None:
    assert holds(with_report(WHOLE["ecdsa"]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), values)
def test_report_with_a_changed_value_does_not_pass(path: Path, value: Any) -> None:
    old = at(WHOLE["ecdsa"], path)
    result = holds(with_report(replaced(WHOLE["ecdsa"], path, value)))
    if counts(path) and json.dumps(value) != json.dumps(old) and not means_the_same(path, old, value):
        assert not result


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([path for path in PLACES if counts(path)]), st.data())
def test_report_with_a_changed_character_does_not_pass(path: Path, data: st.DataObject) -> None:
    old = at(WHOLE["ecdsa"], path)
    if not isinstance(old, str) or not old or path == ("nvidia_payload",):
        return
    place = data.draw(st.integers(0, len(old) - 1))
    new = old[:place] + data.draw(st.sampled_from("0123456789abcdefx \x00é")) + old[place + 1 :]
    result = holds(with_report(replaced(WHOLE["ecdsa"], path, new)))
    assert not result or means_the_same(path, old, new)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=2, max_size=5))
def test_report_changed_in_several_places_raises_no_exception(bends: list[tuple[Path, Any]]) -> None:
    bent = copy.deepcopy(WHOLE["ecdsa"])
    for path, value in sorted(bends, key=lambda bend: -len(bend[0])):  # the deepest first, so that all are still there
        bent = replaced(bent, path, value)
    holds(with_report(bent))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([path for path in places(json.loads(gpu_payload())) if path]), values)
def test_altered_gpu_evidence_raises_no_exception_and_fails_without_its_nonces(path: Path, value: Any) -> None:
    payload = json.loads(gpu_payload())
    bent = replaced(payload, path, value)
    result = holds(with_report(WHOLE["ecdsa"] | {"nvidia_payload": json.dumps(bent)}))
    if path in (("nonce",), ("evidence_list",), ("evidence_list", 0), ("evidence_list", 1, "evidence")):
        assert not result or means_the_same(path, at(payload, path), value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_report_of_any_bytes_raises_no_exception_and_fails(body: bytes) -> None:
    assert not holds(evidence(reports=[Statement(body)], signatures=[Statement(body)]))


@settings(max_examples=200, deadline=None)
@given(values)
def test_report_of_any_json_raises_no_exception_and_fails(value: Any) -> None:
    body = json.dumps(value).encode()
    assert not holds(evidence(reports=[Statement(body)], signatures=[Statement(body)]))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ALGOS), st.sampled_from(sorted(signature())), values)
def test_signature_with_a_changed_member_does_not_pass(algo: str, name: str, value: Any) -> None:
    whole = signature("ecdsa" if algo == "ecdsa" else "ed25519")
    about = evidence(reports=[], attestation_asked=False)
    about.signatures = [Statement(json.dumps(whole | {name: value}).encode())]
    assert not holds(about) or means_the_same((name,), whole[name], value)
