"""mitmproxy's connection handler, with a method to handle an event inline; the base of the launcher's handler."""

from abc import ABCMeta

from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler


class InlineConnectionHandler(ConnectionHandler, metaclass=ABCMeta):
    """A connection handler that can handle an event inline, without a task."""

    _events = 0
    """Number of events that are being handled, or wait for that."""

    async def server_event(self, event: events.Event) -> None:
        """Handle an event in the layers; as in mitmproxy, one after the other."""
        self._events += 1
        try:
            await super().server_event(event)
        finally:
            self._events -= 1

    def handle_now(self, event: events.Event) -> bool:
        """Handle an event in the layers at once; return False if an earlier event is still being handled.

        Raises:
            RuntimeError: mitmproxy has awaited something while it handled the event, which it never does.
        """
        if self._events:
            return False
        self._events += 1
        # mitmproxy awaits only its lock, which is free.
        step = super().server_event(event)
        try:
            step.send(None)
        except StopIteration:
            return True
        finally:
            self._events -= 1
        raise RuntimeError("mitmproxy has waited for something in the middle of an event")
