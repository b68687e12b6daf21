"""mitmproxy's connection handler, with a way to handle an event at once: what the launcher's handlers are made of."""

from abc import ABCMeta

from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler


class InlineConnectionHandler(ConnectionHandler, metaclass=ABCMeta):
    """A connection handler that can handle an event inline, without a task to wait for its turn."""

    _events = 0
    """How many events are being handled, or wait for that."""

    async def server_event(self, event: events.Event) -> None:
        """Have the layers handle an event; as in mitmproxy, one after the other."""
        self._events += 1
        try:
            await super().server_event(event)
        finally:
            self._events -= 1

    def handle_now(self, event: events.Event) -> bool:
        """Have the layers handle an event, if there is no other one before it; else return False.

        Raises:
            RuntimeError: mitmproxy has waited for something in the middle of the event, which it never does.
        """
        if self._events:
            return False
        self._events += 1
        # All that it ever waits for is its turn.
        step = super().server_event(event)
        try:
            step.send(None)
        except StopIteration:
            return True
        finally:
            self._events -= 1
        raise RuntimeError("mitmproxy has waited for something in the middle of an event")
