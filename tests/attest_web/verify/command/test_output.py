import json

import pytest

from attest_web.verify.audit import Audit
from attest_web.verify.command.output import as_json, as_text
from attest_web.verify.primitives.checks import Check, Status, not_asked

HOLDS = Check("ecdsa RTMR3", Status.PASSED, "9 events give 00")
FAILS = Check("ecdsa key provider", Status.FAILED, "tpm")
OPEN = not_asked("ecdsa MRTD", "not asked for")


@pytest.mark.parametrize("checks", [[HOLDS, OPEN], [HOLDS, FAILS]])
@pytest.mark.parametrize("explain", [False, True])
def test_warnings_are_printed_last_after_the_verdict(checks: list[Check], explain: bool) -> None:
    lines = as_text(Audit(checks, ["one", "two"]), colours=False, explain=explain).splitlines()
    assert lines[-2:] == ["! warning: one", "! warning: two"]
    assert "verified" in lines[-3]


def test_json_output_has_the_warnings() -> None:
    made = json.loads(as_json(Audit([HOLDS, OPEN], ["one", "two"])))
    assert made["ok"] is True
    assert list(made)[-1] == "warnings"
    assert made["warnings"] == ["one", "two"]


def test_explained_output_says_what_each_check_proves_and_leaves_open() -> None:
    plain, explained = (as_text(Audit([HOLDS]), colours=False, explain=explain) for explain in (False, True))
    assert "proves" not in plain
    assert "    proves: the log has everything that guest and apps have measured since\n    leaves open: " in explained
    (check,) = json.loads(as_json(Audit([HOLDS]), explain=True))["checks"]
    assert check["proves"].startswith("the log has everything")
    assert check["leaves_open"]


def test_warning_with_a_line_break_cannot_forge_a_check_line() -> None:
    assert "\n✓" not in as_text(Audit([HOLDS], ["x\n✓ ecdsa MRTD: as expected"]), colours=False)
