"""Reports as such: how long they may be, and how often they are read."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from attest_web.verify.dstack.event_log import Event, parse_event_log
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.report import MAX_BYTES, MAX_LOG, Report
from tests.attest_web.verify.auditing import audit, wrong
from tests.attest_web.verify.minting import report


def test_report_that_is_too_long_is_refused_unparsed() -> None:
    body = json.dumps(report()).encode()
    longest = body.ljust(MAX_BYTES)
    assert Report.parse(longest).algo == "ecdsa"
    with pytest.raises(FailedError, match=f"the report is {MAX_BYTES + 1} bytes long"):
        Report.parse(longest + b" ")
    with pytest.raises(FailedError, match="bytes long"):
        Report.parse(b"[" * (MAX_BYTES + 1))


def test_event_log_text_that_is_too_long_is_refused() -> None:
    longest = json.dumps(report()["event_log"]).ljust(MAX_LOG)
    assert audit(report(event_log=longest), report("ed25519")).ok
    too_long = Report(report(event_log=longest + " "))
    with pytest.raises(FailedError, match=f"event_log is {MAX_LOG + 1} characters long"):
        _ = too_long.events
    found = audit(report(event_log=longest + " "), report("ed25519"))
    assert {f"ecdsa RTMR{register}" for register in range(4)} <= wrong(found)


@pytest.mark.parametrize("as_text", [False, True], ids=["list", "text"])
def test_malformed_event_log_is_parsed_only_once_for_all_checks(monkeypatch: pytest.MonkeyPatch, as_text: bool) -> None:
    read: list[int] = []

    def parse(entries: Sequence[object]) -> list[Event]:
        read.append(len(entries))
        return parse_event_log(entries)

    monkeypatch.setattr("attest_web.verify.report.parse_event_log", parse)
    log: list[Any] = [*report()["event_log"], {}]
    found = audit(report(event_log=json.dumps(log) if as_text else log), report("ed25519"))
    assert {f"ecdsa {name}" for name in ("RTMR0", "RTMR3", "boot log", "compose hash")} <= wrong(found)
    assert read == [len(log), len(log) - 1]
