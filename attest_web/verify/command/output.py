"""Formats the outcome: a line for each check, or one JSON object."""

import json
from typing import Any

from attest_web.printable import printable
from attest_web.verify.audit import Audit
from attest_web.verify.command.explanations import explanation
from attest_web.verify.command.moment import shown_moment
from attest_web.verify.primitives.checks import Check, Status

_MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.NOT_MADE: "–"}  # noqa: RUF001
_GREEN, _RED, _YELLOW, _GREY, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[90m", "\x1b[0m"


def as_text(audit: Audit, colours: bool, *, explain: bool = False) -> str:
    """The outcome as text: the checks, the verdict, and then its warnings.

    Args:
        audit: The outcome.
        colours: Whether the terminal takes ANSI colours.
        explain: Whether to explain what each check proves and what it leaves open.
    """

    def coloured(colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if colours else text

    lines = []
    for check in audit.checks:
        lines.append(f"{coloured(_colour(check), _MARKS[check.status])} {_line(check)}")
        if explain and (meaning := explanation(check.name)) is not None:
            lines += [f"    proves: {meaning.proves}", f"    leaves open: {meaning.leaves_open}"]
    lines += ["", coloured(_GREEN if audit.ok else _RED, _summary(audit))]
    # Last, where they are noticed: without them, the verdict would look stronger than it is.
    lines += [coloured(_YELLOW, f"! warning: {printable(warning)}") for warning in audit.warnings]
    return "\n".join(lines)


def as_json(audit: Audit, *, explain: bool = False) -> str:
    """The outcome as JSON, on one line; see `as_text`."""
    checks = [_member(check, explain) for check in audit.checks]
    as_of = {} if audit.as_of is None else {"as_of": shown_moment(audit.as_of)}
    found = {"ok": audit.ok, **as_of, "checks": checks, "warnings": [printable(line) for line in audit.warnings]}
    return json.dumps(found)


def _member(check: Check, explain: bool) -> dict[str, Any]:
    member = {"name": check.name, "status": str(check.status), "detail": printable(check.detail)}
    if explain and (meaning := explanation(check.name)) is not None:
        member |= {"proves": meaning.proves, "leaves_open": meaning.leaves_open}
    return member


def _line(check: Check) -> str:
    not_made = "not made, " if check.status is Status.NOT_MADE else ""
    return f"{check.name}: {not_made}{printable(check.detail)}"


def _colour(check: Check) -> str:
    if check.status is Status.PASSED:
        return _GREEN
    return _GREY if check.holds else _RED


def _summary(audit: Audit) -> str:
    passed = sum(check.status is Status.PASSED for check in audit.checks)
    failed = sum(check.status is Status.FAILED for check in audit.checks)
    left_open = sum(check.status is Status.NOT_MADE and check.asked for check in audit.checks)
    when = "" if audit.as_of is None else f" AS OF {shown_moment(audit.as_of)}, not as of today"
    if audit.ok:
        return f"verified{when}: all {passed} requested checks hold"
    return f"NOT verified{when}: {failed} failed, {left_open} could not be made, {passed} hold"
