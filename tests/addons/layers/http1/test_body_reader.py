"""The readers of request bodies. test_chunked.py tests the chunk decoder, test_server.py the responses to clients."""

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer

from addons.layers.http1.body_reader import CrlfBuffer, RequestBodyReader, make_body_reader
from addons.layers.http1.chunked import ChunkDecoder


def buffer_of(data: bytes) -> ReceiveBuffer:
    buffer: ReceiveBuffer = CrlfBuffer()
    buffer += data
    return buffer


def test_a_body_in_chunks_is_read_by_the_chunk_decoder_and_others_by_mitmproxys_readers() -> None:
    assert isinstance(make_body_reader(None), ChunkDecoder)
    assert not isinstance(make_body_reader(5), ChunkDecoder)
    assert not isinstance(make_body_reader(-1), ChunkDecoder)


def test_chunks_that_have_come_together_are_one_piece() -> None:
    reader, buffer = RequestBodyReader(make_body_reader(None)), buffer_of(b"1\r\na\r\n" * 100 + b"5\r\nab")
    event = reader(buffer)
    assert isinstance(event, h11.Data)
    assert event.data == b"a" * 100 + b"ab"
    assert reader(buffer) is None
    buffer += b"cde\r\n0\r\nTrailer: x\r\n\r\nGET /"
    event = reader(buffer)
    assert isinstance(event, h11.Data)
    assert event.data == b"cde"
    assert isinstance(reader(buffer), h11.EndOfMessage)
    assert bytes(buffer) == b"GET /", "the next request"


def test_a_body_of_a_known_length_ends_with_its_last_byte() -> None:
    reader, buffer = RequestBodyReader(make_body_reader(3)), buffer_of(b"abcGET /")
    event = reader(buffer)
    assert isinstance(event, h11.Data)
    assert event.data == b"abc"
    assert isinstance(reader(buffer), h11.EndOfMessage)
    assert bytes(buffer) == b"GET /"


@pytest.mark.parametrize("data", [b"5\nhello", b"\nhello"])
def test_a_line_that_ends_with_lf_alone_is_refused(data: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError, match="LF alone"):
        buffer_of(data).maybe_extract_next_line()


@pytest.mark.parametrize("data", [b"a: b\nc: d\r\n\r\n", b"a: b\n\r\n\r\n", b"a: b\n"])
def test_a_trailer_that_ends_with_lf_alone_is_refused(data: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError, match="LF alone"):
        buffer_of(data).maybe_extract_lines()


def test_lines_that_end_with_crlf_are_taken_out() -> None:
    buffer = buffer_of(b"5\r\na: b\r\n\r\nrest")
    assert buffer.maybe_extract_next_line() == bytearray(b"5\r\n")
    assert buffer.maybe_extract_lines() == [bytearray(b"a: b")]
    assert bytes(buffer) == b"rest"
    assert buffer.maybe_extract_next_line() is None
