"""Commands for the selected flow, for the command bars of mitmweb and of the console."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NoReturn

from mitmproxy import command, exceptions, flow
from mitmproxy.log import ALERT

from addons.inspection.inspected_flow import InspectedFlow
from addons.inspection.inspection import Inspection
from addons.inspection.text import check_lines, checks_of, comment_of, signature_lines
from attest_web.attestation.report_cache import ReportCache, TooManyReportsError
from attest_web.attestation.reports import ReportRequest
from attest_web.dstack.guest_agent import DstackError
from attest_web.gpu.evidence import GpuEvidenceError
from attest_web.metrics import Metrics
from attest_web.printable import printable
from attest_web.process.daemon_threads import DaemonThreads
from attest_web.signatures import SIGNING_ALGOS, SignedExchange, SigningAlgo
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.primitives.checks import Check, FailedError, NotMadeError, Status
from attest_web.verify.report import Report
from attest_web.verify.report_checks import check_report
from attest_web.verify.signed_text import address_bytes

logger = logging.getLogger(__name__)

MOST = 20
"""Most flows for one command, which blocks the event loop."""

CHOSEN: Sequence[flow.Flow] = ()
"""Means the selected flow, if a command names none; an expression that matches no flow gives another sequence."""


class InspectionCommands:
    """`tee.signature`, `tee.verify`, `tee.attestation`, `tee.stats`."""

    def __init__(
        self,
        inspection: Inspection,
        addresses: Mapping[SigningAlgo, str],
        report: Callable[[SigningAlgo], bytes],
        stats: Callable[[], Sequence[str]],
    ) -> None:
        """Make the commands.

        Args:
            inspection: Has what is shown of the exchanges.
            addresses: This proxy's signing addresses.
            report: Returns an attestation report; blocks while one is made.
            stats: Returns the statistics, a line each.
        """
        self._view = inspection.view
        self._inspection = inspection
        self._addresses = addresses
        self._report = report
        self._stats = stats
        self._threads = DaemonThreads("attestation for a command", 1)
        self._asked: Future[list[str]] | None = None
        self._asked_for: SignedExchange | None = None

    @command.command("tee.signature")  # type: ignore[untyped-decorator]
    def signature(self, flows: Sequence[flow.Flow] = CHOSEN) -> Sequence[str]:
        """Show what was signed of the chosen flow, or of others, and the signatures."""
        lines: list[str] = []
        for inspected in self._chosen(flows):
            signed = inspected.exchange.signed
            found = ["no signature"] if signed is None else signature_lines(signed)
            lines += [_title(inspected), *found]
        return lines

    @command.command("tee.verify")  # type: ignore[untyped-decorator]
    def verify(self, flows: Sequence[flow.Flow] = CHOSEN) -> Sequence[str]:
        """Verify the signatures of the chosen flow, or of others, against what has passed."""
        lines: list[str] = []
        for inspected in self._chosen(flows):
            lines += [_title(inspected), *check_lines(checks_of(inspected, self._addresses))]
        return lines

    @command.command("tee.attestation")  # type: ignore[untyped-decorator]
    def attestation(self, flows: Sequence[flow.Flow] = CHOSEN) -> Sequence[str]:
        """Check the attestation of the keys that have signed the chosen flow. It may take a while: run it again."""
        chosen = self._chosen(flows)
        if len(chosen) != 1 or (signed := chosen[0].exchange.signed) is None:
            raise exceptions.CommandError("Choose one flow that has been signed.")
        title = _title(chosen[0])
        if self._asked is not None and self._asked.done() and self._asked_for is signed:
            asked, self._asked, self._asked_for = self._asked, None, None
            return [title, *asked.result()]
        if self._asked is None or self._asked.done():
            self._asked_for = signed
            self._asked = self._threads.submit(self._attest, signed)
            self._asked.add_done_callback(_tell_that_it_is_there)
            return [
                title,
                "the reports are being made; the log tells when they are there: then give this command again",
            ]
        return [title, "reports are still being made; give this command again in a moment"]

    @command.command("tee.stats")  # type: ignore[untyped-decorator]
    def stats(self) -> Sequence[str]:
        """Show how many exchanges were signed, and why others were not."""
        return [*self._stats(), f"flows listed: {self._view.store_count()}"]

    def done(self) -> None:
        """Stop the thread."""
        self._threads.close()

    def _chosen(self, flows: Sequence[flow.Flow]) -> list[InspectedFlow]:
        if flows is CHOSEN and self._view.focus.flow is not None:
            flows = [self._view.focus.flow]
        if not 0 < len(flows) <= MOST:
            raise exceptions.CommandError(f"Choose a flow, or name 1 to {MOST}; these are {len(flows)}.")
        found = [inspected for each in flows if (inspected := self._inspection.find(each)) is not None]
        if len(found) < len(flows):
            raise exceptions.CommandError("Nothing is known here of this flow: it has not passed, or it is a copy.")
        return found

    def _attest(self, signed: SignedExchange) -> list[str]:
        lines: list[str] = []
        for algo in SIGNING_ALGOS:
            by = signed["signing_address_ecdsa" if algo == "ecdsa" else "signing_address_ed25519"]
            try:
                report = Report.parse(self._report(algo))
                checks = attestation_checks(algo, by, report)
            except (DstackError, GpuEvidenceError, FailedError) as error:
                lines.append(f"{algo}: no report can be had: {error}")
            except (TooManyReportsError, TimeoutError):
                lines.append(f"{algo}: too many reports are being made; try again in a moment")
            else:
                lines += check_lines(checks)
        return lines


def report_of(report_cache: ReportCache, algo: SigningAlgo) -> bytes:
    """The report for a key, without a TLS key; it may be a few minutes old."""
    return report_cache.report(ReportRequest(algo), None)


def attestation_checks(algo: SigningAlgo, signed_by: str, report: Report) -> list[Check]:
    """The checks of a report that need no other service.

    Args:
        algo: The algorithm.
        signed_by: The address that signed the flow.
        report: The report.
    """
    policy = Policy(_leave_to_tee_verify, gpu=GpuDemand.NONE)
    expected = Expected(signers=frozenset({address_bytes(algo, signed_by)}))
    checks = check_report(algo, report, expected, policy)
    return [replace(check, asked=check.status is not Status.NOT_MADE) for check in checks]


def _leave_to_tee_verify(_: bytes) -> NoReturn:
    raise NotMadeError("who made the quote is for tee-verify to check, not for the proxy itself")


def stats_lines(metrics: Metrics, *, degraded: bool) -> list[str]:
    """The counts of exchanges by their outcome, a line each."""
    counted = {
        (sample.labels["state"], sample.labels["reason"]): int(sample.value)
        for metric in metrics.exchanges.collect()
        for sample in metric.samples
    }
    lines = [f"signed: {counted.pop(('signed', ''), 0)}"]
    lines += [f"{state}, {reason}: {count}" for (state, reason), count in sorted(counted.items())]
    return [*lines, "the signature store cannot be reached"] if degraded else lines


def _title(inspected: InspectedFlow) -> str:
    return printable(f"{inspected.facts.title}: {comment_of(inspected)}")


def _tell_that_it_is_there(_: Future[list[str]]) -> None:
    logger.log(ALERT, "the attestation reports are there: give the command tee.attestation again")
