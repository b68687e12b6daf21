"""The lists in which a report stands once more: whoever reads it there must read what is checked."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.report import LISTS, Report
from tests.attest_web.verify.auditing import audit, wrong
from tests.attest_web.verify.minting import OTHER_KEYS, report


def listed(*names: str, **lists: Any) -> dict[str, Any]:
    """A report that stands in these lists as well; `lists` replaces them."""
    alone = report()
    return alone | {name: [alone] for name in names} | lists


@pytest.mark.parametrize("names", [(), LISTS, LISTS[:1], LISTS[1:]], ids=str)
def test_report_repeated_in_its_lists_passes(names: tuple[str, ...]) -> None:
    assert audit(listed(*names), report("ed25519")).ok


NO_REPORTS: list[Any] = [None, "", {}, [], [report()], 1]
OTHERS: list[tuple[Any, str]] = [
    *((not_a_list, "is not a list") for not_a_list in (report(), {}, "[]", 1, True)),
    (None, "is null"),
    ([], "has 0 entries"),
    ([report(), report()], "has 2 entries"),
    ([report(), report("ed25519")], "has 2 entries"),
    ([report("ed25519")], "differs from the report itself"),
    ([report(keys=OTHER_KEYS)], "differs from the report itself"),
    ([report() | {"more": 1}], "differs from the report itself"),
    ([{name: value for name, value in report().items() if name != "model_name"}], "differs from the report itself"),
    *(([each], "differs from the report itself") for each in NO_REPORTS),
    ([report() | {"all_attestations": []}], "differs from the report itself"),
]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("other", "why"), OTHERS)
def test_a_list_that_disagrees_with_the_top_level_is_refused(name: str, other: Any, why: str) -> None:
    found = audit(listed(*LISTS, **{name: other}), report("ed25519"))
    [refused] = [check for check in found.checks if check.name == "report 1 report"]
    assert name in refused.detail
    assert why in refused.detail
    assert "report 1 report" in wrong(found)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "another": lambda _: "another",
    "null": lambda _: None,
    "in a list": lambda value: [value],
    "none": lambda value: value[:0] if isinstance(value, str | list) else {},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("member", sorted(report()))
def test_report_list_entry_is_compared_in_every_member(member: str, change: str) -> None:
    alone = report()
    entry = alone | {member: CHANGES[change](alone[member])}
    with pytest.raises(FailedError, match="differs from the report itself"):
        Report.parse(json.dumps(alone | {"model_attestations": [entry]}).encode())


@pytest.mark.parametrize(("top", "entry"), [(1, True), (0, False), (1, 1.0), ("1", 1), (0, -0.0), ("a", "A")])
def test_report_list_values_that_differ_only_in_type_sign_or_case_are_refused(top: object, entry: object) -> None:
    alone = report() | {"info": {"at": [top]}}
    with pytest.raises(FailedError, match="differs from the report itself"):
        Report.parse(json.dumps(alone | {"all_attestations": [alone | {"info": {"at": [entry]}}]}).encode())


def test_report_list_entry_with_reordered_members_is_accepted() -> None:
    alone = report()
    backwards = dict(reversed(alone.items()))
    assert Report.parse(json.dumps(alone | {name: [backwards] for name in LISTS}).encode()).algo == "ecdsa"


def test_report_nested_too_deeply_is_refused() -> None:
    deep = b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"
    body = json.dumps(report()).encode()[:-1] + b',"more":' + deep + b',"model_attestations":[' + deep + b"]}"
    with pytest.raises(FailedError):
        Report.parse(body)
