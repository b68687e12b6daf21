"""What operators see of the traffic in mitmweb and in the console, and what is withheld.

Each flow is marked, and has a comment with its status. Bodies are not shown: a notice with their sizes and hashes
replaces them as soon as the message's head is there. A request body that would have to stay in the flow until it is
forwarded is kept here instead. mitmdump and `tee-signer` show no flows and do not load this.
"""

from mitmproxy import ctx, flow, http
from mitmproxy.addons.view import View

from addons.bodies.pipeline import BodyPipeline, pipeline_in
from addons.exchange.body_digest import BodyDigest
from addons.exchange.exchanges import Exchanges
from addons.exchange.flow_facts import FlowFacts
from addons.inspection.inspected_flow import InspectedFlow, MeasuredBody, Modifier, model_of
from addons.inspection.text import comment_of, is_withheld, mark_of, notice_of
from addons.routing.routes import request_path

_BROWSER = "webaddon"
"""The name of the addon of mitmproxy's that only mitmweb has."""


class Inspection:
    """Marks flows, and withholds their bodies; see `addons.layers.layer_config.RedactedBodyStore`.

    It is last in the chain, so it sees messages as they are sent.

    Attributes:
        view: mitmproxy's list of flows.
        keeps_plaintext: Whether bodies stay in flows and are shown.
    """

    def __init__(self, view: View, exchanges: Exchanges, *, keeps_plaintext: bool) -> None:
        """Make the addon.

        Args:
            view: mitmproxy's list of flows.
            exchanges: The records of the exchanges.
            keeps_plaintext: Whether bodies stay in flows and are shown.
        """
        self.keeps_plaintext = keeps_plaintext
        self.view = view
        self._exchanges = exchanges

    def find(self, of: flow.Flow | None) -> InspectedFlow | None:
        """What is shown of a flow; None if it did not pass this proxy, such as a copy or a flow from a file."""
        exchange = self._exchanges.find(of)
        return InspectedFlow(exchange, exchange.shown) if exchange is not None and exchange.shown is not None else None

    def shown(self, which: flow.Flow) -> None:
        """Set `@focus` to the flow that is shown in mitmweb.

        In mitmweb, only the browser knows which flow is selected; its request for the bodies is the only sign of it.
        """
        if ctx.master.addons.get(_BROWSER) is None or which not in self.view:
            return
        if self.view.focus.flow is not which:
            self.view.focus.flow = which

    def running(self) -> None:
        """Have mitmweb show the comments, unless its columns are configured."""
        if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
            # With bodies withheld, the size would be that of the notices.
            left_out = () if self.keeps_plaintext else ("size",)
            columns = [column for column in ctx.options.web_columns if column not in left_out]
            ctx.options.update(web_columns=[*columns, "comment"])

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Start the record of a flow."""
        exchange = self._exchanges.of(flow)
        facts = exchange.shown = FlowFacts(f"{flow.request.method} {request_path(flow.request)}")
        if flow.request.stream and flow.response is None:
            _measure(flow.request, facts.request, as_received=True)
        self._show(flow, InspectedFlow(exchange, facts))

    def came(self, flow: http.HTTPFlow) -> None:
        """Measure a request body that was held, before any addon changes it."""
        inspected = self.find(flow)
        body = flow.request.raw_content
        if inspected is None or body is None or is_withheld(inspected, flow.request):
            return
        facts = inspected.facts
        if not facts.request.complete:  # it has not passed a modifier
            facts.request.add(body)
            facts.request.end()
        facts.model = model_of(body) if inspected.due else None

    def request(self, flow: http.HTTPFlow) -> None:
        """Take a body out of its flow while it waits to be forwarded, which may be long."""
        inspected = self.find(flow)
        if inspected is None or self.keeps_plaintext or not flow.request.raw_content:
            return
        if not is_withheld(inspected, flow.request):
            if flow.response is None:
                inspected.facts.waiting = flow.request.raw_content
            flow.request.data.content = None
        self._show(flow, inspected)

    def release(self, flow: http.HTTPFlow) -> None:
        """Put a request body back into its flow, to be forwarded now, unless an operator has written another one."""
        inspected = self.find(flow)
        if inspected is None:
            return
        body, inspected.facts.waiting = inspected.facts.waiting, None
        if body is not None and (flow.request.data.content is None or is_withheld(inspected, flow.request)):
            flow.request.data.content = body

    def forget(self, flow: http.HTTPFlow) -> None:
        """Drop a request body, and put a notice in its place."""
        if (inspected := self.find(flow)) is not None:
            inspected.facts.waiting = None
            self._show(flow, inspected)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Prepare to measure the response body."""
        inspected, response = self.find(flow), flow.response
        if inspected is None or response is None:
            return
        if response.stream:
            _measure(response, inspected.facts.response, as_received=False)
        self._show(flow, inspected)

    def response(self, flow: http.HTTPFlow) -> None:
        """Show how the exchange has ended; a WebSocket has only begun."""
        inspected, response = self.find(flow), flow.response
        if inspected is None or response is None:
            return
        inspected.facts.ended = True
        digest = inspected.facts.response
        if not digest.complete and not is_withheld(inspected, response):
            digest.add(response.raw_content or b"")  # it was not streamed
            digest.end()
        self._show(flow, inspected)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Show how a WebSocket has ended, in place of the body that a 101 does not have."""
        if flow.response is not None and not flow.response.raw_content:
            flow.response.data.content = None
        if (inspected := self.find(flow)) is not None:
            self._show(flow, inspected)

    def error(self, flow: http.HTTPFlow) -> None:
        """Show why an exchange has failed; `log_redaction` has removed quotes of traffic."""
        if (inspected := self.find(flow)) is not None:
            inspected.facts.waiting = None
            inspected.facts.error = flow.error.msg if flow.error is not None else "it was cut short"
            self._show(flow, inspected)

    def _show(self, flow: http.HTTPFlow, inspected: InspectedFlow) -> None:
        """Update a flow's mark and comment, unless an operator or another addon has written them."""
        facts, mark, comment = inspected.facts, mark_of(inspected), comment_of(inspected)
        if flow.marked == facts.mark:
            flow.marked = facts.mark = mark
        if flow.comment == facts.comment:
            flow.comment = facts.comment = comment
        self._notice(flow.request, inspected, "request")
        if flow.response is not None:
            self._notice(flow.response, inspected, "response")

    def _notice(self, message: http.Message, inspected: InspectedFlow, what: str) -> None:
        content, notices = message.data.content, inspected.facts.notices
        if content is None or content is notices.get(what):
            message.data.content = notices[what] = notice_of(inspected, what, kept=self.keeps_plaintext)


def _measure(message: http.Message, digest: BodyDigest, *, as_received: bool) -> None:
    """Measure a streamed body by an observer of its pipeline; make a pipeline if it has none."""
    pipeline = pipeline_in(message.stream)
    if pipeline is None:
        modify = message.stream
        pipeline = message.stream = BodyPipeline([Modifier(modify)] if callable(modify) else [])
    pipeline.observer = MeasuredBody(digest, as_received=as_received)


class OriginalRequestProbe:
    """Passes requests to the inspection from the front of the chain, before any addon changes their bodies."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def request(self, flow: http.HTTPFlow) -> None:
        """Pass a request whose body is complete."""
        self._inspection.came(flow)
