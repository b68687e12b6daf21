"""The content view "TEE proof": what was signed of an exchange, and whether the signatures verify."""

from collections.abc import Callable, Mapping

from mitmproxy import contentviews

from addons.inspection.inspection import Inspection
from addons.inspection.text import BANNER, is_withheld, proof_lines
from attest_web.signatures import SigningAlgo

NAME = "TEE proof"

FIRST = 100.0
"""Higher than the priority of any of mitmproxy's own views."""


class TeeProof(contentviews.Contentview):
    """Shows the proof in place of a body, or above it where bodies are kept."""

    def __init__(self, inspection: Inspection, addresses: Mapping[SigningAlgo, str]) -> None:
        """Make the view.

        Args:
            inspection: Has what is shown of the exchanges.
            addresses: This proxy's signing addresses.
        """
        self._inspection = inspection
        self._addresses = addresses

    def load(self, loader: object) -> None:  # noqa: ARG002  # the hook's signature
        """Register the view."""
        contentviews.add(self)

    @property
    def name(self) -> str:
        """See `Contentview.name`."""
        return NAME

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:  # noqa: ARG002
        """Above all others for a flow of this proxy, except for a response of the proxy's own."""
        self._note(metadata)
        inspected = self._inspection.find(metadata.flow)
        if inspected is None:
            return -1
        shows = inspected.due if self._inspection.keeps_plaintext else is_withheld(inspected, metadata.http_message)
        return FIRST if shows else -1

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        """The proof of the exchange; below it, the body, where that is kept."""
        self._note(metadata)
        inspected = self._inspection.find(metadata.flow)
        if inspected is None:
            return "Nothing is known here of this flow: it has not passed this proxy, or it is a copy."
        lines = proof_lines(inspected, self._addresses)
        if self._inspection.keeps_plaintext:
            lines = [BANNER, "", *lines]
            if not is_withheld(inspected, metadata.http_message):
                lines += ["", _body(data, metadata)]
        return "\n".join(lines)

    def _note(self, metadata: contentviews.Metadata) -> None:
        if metadata.flow is not None:
            self._inspection.shown(metadata.flow)


def _body(data: bytes, metadata: contentviews.Metadata) -> str:
    shown: Callable[[bytes, contentviews.Metadata], str] = contentviews.registry["raw"].prettify
    json_view = contentviews.registry["json"]
    if json_view.render_priority(data, metadata) > 0:
        try:
            return json_view.prettify(data, metadata)
        except ValueError:
            pass
    return shown(data, metadata)
