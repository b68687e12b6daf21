"""The commands for the selected flow. tests/e2e/test_console.py and test_mitmweb.py run them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons

from addons.exchange.exchanges import Exchanges
from addons.inspection import commands
from addons.inspection.commands import MOST, InspectionCommands, stats_lines
from addons.inspection.inspection import Inspection
from attest_web.attestation.report_cache import TooManyReportsError
from attest_web.dstack.guest_agent import DstackError
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.signatures import SigningAlgo, sign_text, signed_text
from tests.addons.conftest import MakeFlow

type Report = Callable[[SigningAlgo], bytes]


class Chosen:
    """Commands, and the list of flows that they are given for."""

    def __init__(self, exchanges: Exchanges, keys: SigningKeys, make_flow: MakeFlow) -> None:
        self.exchanges = exchanges
        self.keys = keys
        self.view = View()
        self.inspection = Inspection(self.view, exchanges, keeps_plaintext=False)
        self.report: Report = lambda _: b"{}"
        addresses: dict[SigningAlgo, str] = {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}
        self.commands = InspectionCommands(self.inspection, addresses, self._report, lambda: ["signed: 1"])
        self._make_flow = make_flow

    def _report(self, algo: SigningAlgo) -> bytes:
        return self.report(algo)

    def add(self, *, signed: bool) -> http.HTTPFlow:
        """Have a flow pass."""
        made = self._make_flow(b"{}")
        self.inspection.requestheaders(made)
        self.view.requestheaders(made)
        exchange = self.exchanges.of(made)
        if signed:
            exchange.state, exchange.receipt_id = "signed", "rcpt-1"
            exchange.signed = sign_text(self.keys, signed_text("0" * 64, "1" * 64))
        return made


@pytest.fixture
def chosen(exchanges: Exchanges, keys: SigningKeys, make_flow: MakeFlow) -> Iterator[Chosen]:
    made = Chosen(exchanges, keys, make_flow)
    with taddons.context(made.view):
        yield made
    made.commands.done()


def test_the_signatures_of_the_chosen_flow_are_shown(chosen: Chosen, keys: SigningKeys) -> None:
    made = chosen.add(signed=True)
    lines = chosen.commands.signature([made])
    assert lines[0].startswith("POST /v1/chat/completions: signed")
    assert any("0" * 64 + ":" + "1" * 64 in line for line in lines)
    assert any(keys.ecdsa_address in line for line in lines)
    assert chosen.commands.signature() == lines, "it has the focus"


def test_a_flow_that_is_not_signed_says_so(chosen: Chosen) -> None:
    assert chosen.commands.signature([chosen.add(signed=False)])[1:] == ["no signature"]


def test_a_signature_of_other_bytes_than_passed_is_not_verified(chosen: Chosen) -> None:
    lines = chosen.commands.verify([chosen.add(signed=True)])
    assert any("ecdsa request hash" in line for line in lines)
    assert not any(line.startswith("verified: all") for line in lines)


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_no_flow_and_too_many_flows_are_refused(chosen: Chosen, count: int) -> None:
    flows = [chosen.add(signed=True) for _ in range(count)]
    with pytest.raises(exceptions.CommandError, match=f"these are {count}"):
        chosen.commands.verify(flows)


def test_a_copy_of_a_flow_is_refused(chosen: Chosen) -> None:
    with pytest.raises(exceptions.CommandError, match="it is a copy"):
        chosen.commands.verify([chosen.add(signed=True).copy()])


def test_a_flow_that_is_not_signed_has_no_attestation(chosen: Chosen) -> None:
    with pytest.raises(exceptions.CommandError, match="has been signed"):
        chosen.commands.attestation([chosen.add(signed=False)])


def asked_twice(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ask for an attestation, and again when it is there."""
    there = threading.Event()

    def tell(_: Future[list[str]]) -> None:
        there.set()

    monkeypatch.setattr(commands, "_tell_that_it_is_there", tell)
    made = chosen.add(signed=True)
    assert "the reports are being made" in chosen.commands.attestation([made])[1]
    assert there.wait(10)
    return list(chosen.commands.attestation([made]))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DstackError("no agent"), "no report can be had: no agent"),
        (TooManyReportsError(), "too many reports are being made"),
        (TimeoutError(), "too many reports are being made"),
    ],
)
def test_a_report_that_cannot_be_had_is_said_for_each_key(
    chosen: Chosen, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(_: SigningAlgo) -> bytes:
        raise error

    chosen.report = fail
    lines = asked_twice(chosen, monkeypatch)
    assert [line.partition(":")[0] for line in lines[1:]] == ["ecdsa", "ed25519"]
    assert all(said in line for line in lines[1:])


def test_a_report_that_is_none_makes_its_checks_fail(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = asked_twice(chosen, monkeypatch)
    assert not any(line.startswith("verified: all") for line in lines)


def test_while_reports_are_made_no_others_are_asked_for(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def wait(_: SigningAlgo) -> bytes:
        go.wait(10)
        return b"{}"

    chosen.report = wait
    made, other = chosen.add(signed=True), chosen.add(signed=True)
    chosen.commands.attestation([made])
    for flow in (made, other):
        assert "reports are still being made" in chosen.commands.attestation([flow])[1]
    go.set()


def test_the_counts_are_told_with_the_number_of_flows(chosen: Chosen) -> None:
    chosen.add(signed=True)
    assert chosen.commands.stats() == ["signed: 1", "flows listed: 1"]


def test_the_counts_name_what_was_not_signed_and_a_store_that_is_away(metrics: Metrics) -> None:
    metrics.exchanges.labels("signed", "").inc(2)
    metrics.exchanges.labels("unsigned", "the answer is empty").inc()
    lines = stats_lines(metrics, degraded=False)
    assert lines[0] == "signed: 2"
    assert "unsigned, the answer is empty: 1" in lines
    assert "the signature store cannot be reached" not in lines
    assert stats_lines(metrics, degraded=True)[-1] == "the signature store cannot be reached"
