"""The fast path of a streamed response, which bypasses mitmproxy's layers.

An event of one or two tokens passes six layers of generators unchanged. Once a response streams, most of what the
upstream sends is whole chunks (RFC 9112, 7.1) of whole events that need not be read. These chunks are hashed and
written to the client unchanged: the layers would write the same bytes. All other bytes go through the layers: a chunk
that may contain a usage, the last event or the end of the body, an incomplete chunk, and one whose size is written in
another form. The layers can continue at any time, as the fast path stops only where the next chunk begins.
"""

from collections.abc import Sized

from addons.bodies.pipeline import BodyPipeline
from addons.layers.http1.chunked import ChunkDecoder


class ChunkFastPath:
    """Takes those pieces of a body that need not go through the layers."""

    def __init__(self, buffer: Sized, decoder: ChunkDecoder, pipeline: BodyPipeline) -> None:
        """Make the fast path of a body that the layers have begun to read.

        Args:
            buffer: Bytes that the layers have received and not read yet.
            decoder: The layers' decoder of the body.
            pipeline: The pipeline of the body.
        """
        self._buffer = buffer
        self._decoder = decoder
        self._pipeline = pipeline

    def take(self, data: bytes) -> int:
        """Hash the whole chunks that can be written to the client unchanged.

        Args:
            data: The received bytes.

        Returns:
            How many of the first bytes the caller has to write; the layers handle the others.
        """
        if self._buffer:
            return 0
        chunks, ends = self._decoder.whole_chunks(data)
        taken = self._pipeline.pass_unread(chunks) if chunks else 0
        return ends[taken - 1] if taken else 0
