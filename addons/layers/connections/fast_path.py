"""The fast path of a streamed response, past mitmproxy's layers.

An event of a token or two goes through six layers of generators, to come out as it went in. Once a response streams,
most of what the upstream sends is whole chunks (RFC 9112, 7.1) of whole events in which nothing has to be looked for.
They are hashed and go to the client as they came: the very bytes that the layers would write. Anything else goes
through the layers: the chunk in which a usage, the last event or the end of the body may be, one that has not come
whole, one that is written in another form. The layers take up where the fast path has left off, as it leaves off only
where the next chunk begins.
"""

from collections.abc import Sized

from addons.bodies.pipeline import BodyPipeline
from addons.layers.http1.chunked import ChunkDecoder


class ChunkFastPath:
    """Takes pieces of one body, as long as they need not go through the layers."""

    def __init__(self, buffer: Sized, decoder: ChunkDecoder, pipeline: BodyPipeline) -> None:
        """Make it for a body that the layers have begun to read.

        Args:
            buffer: What the layers have received and not read yet.
            decoder: By which they read.
            pipeline: What the body streams through.
        """
        self._buffer = buffer
        self._decoder = decoder
        self._pipeline = pipeline

    def take(self, data: bytes) -> int:
        """Take what is to be written to the client as it is of what has come; return how many bytes that is."""
        if self._buffer:
            return 0
        chunks, ends = self._decoder.whole_chunks(data)
        taken = self._pipeline.pass_unread(chunks) if chunks else 0
        return ends[taken - 1] if taken else 0
