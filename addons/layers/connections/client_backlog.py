"""Whether something that has been written on a client's behalf still waits to be read by the other side.

mitmproxy writes all connections of a client dry before it reads on from any of them. So while one of them is full,
nothing comes from its upstreams, and that is not their fault.
"""

from mitmproxy import ctx
from mitmproxy.connection import Client


def unread(client: Client) -> int:
    """How many bytes wait for this client to read what came before them, beside those that the system has taken."""
    handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
    writer = handler.transports[client].writer if handler is not None and client in handler.transports else None
    return writer.transport.get_write_buffer_size() if writer is not None else 0


def has_pending_writes(client: Client) -> bool:
    """Whether a connection of this client, its own or to an upstream, has bytes to write."""
    handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
    if handler is None:
        return False
    writers = [io.writer for io in handler.transports.values() if io.writer is not None]
    return any(writer.transport.get_write_buffer_size() > 0 for writer in writers)
