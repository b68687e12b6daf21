"""The chunk decoder, with h11's as the oracle: for all bytes and all cuts, both read the same or both reject them."""

from collections.abc import Sequence

import h11
import pytest
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import example, given
from hypothesis import strategies as st

from addons.layers.http1.body_reader import CrlfBuffer
from addons.layers.http1.chunked import ChunkDecoder
from tests.support.cutting import cut, cuts

Read = tuple[bytes, str, bytes]

TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

size_lines = st.one_of(
    st.sampled_from(b"5|05|A|a|0|00|5 |5\t | 5|+5|-5|0x5|1_0||5;x=y|5;|5 ;x|5;\nx|5;\rx|0;x|\xb2|5x|5\n".split(b"|")),
    st.sampled_from([b"f" * 20, b"f" * 21, b"0" * 19 + b"5"]),
    st.binary(max_size=4),
)
trailers = st.lists(
    st.sampled_from(b"a: b|a:b |a:|: b|a b: c| folded|\tfolded|a: \x00|a: b\x0b|a|A-1: \xff".split(b"|")), max_size=3
)
line_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    body = b""
    for _ in range(draw(st.integers(0, 4))):
        data = draw(st.binary(min_size=1, max_size=20))
        written_well = draw(st.booleans())
        line = b"%x" % len(data) if written_well else draw(size_lines)
        body += line + draw(line_ends) + data + draw(line_ends)
    end = draw(line_ends)
    body += draw(st.sampled_from([b"0", b"", b"00", b"0;x"])) + end
    return body + b"".join(field + end for field in draw(trailers)) + end + draw(st.sampled_from([b"", b"next"]))


def read(decoder: ChunkDecoder | ChunkedReader, buffer: ReceiveBuffer, pieces: Sequence[bytes]) -> Read:
    """What is read of a body, how that ends, and what is left behind it."""
    body = b""
    for piece in pieces:
        buffer += piece
        while True:
            try:
                event = decoder(buffer)
            except h11.ProtocolError:
                return body, "malformed", b""
            if isinstance(event, h11.Data):
                assert event.data
                body += bytes(event.data)
            elif event is None:
                break
            else:
                return body, "ended", bytes(buffer)
    return body, "goes on", bytes(buffer)


@given(bodies(), cuts)
@example(b"5\r\nhello\r\n0\r\n\r\n", [1, 2, 3])
@example(b"5;ext\r\nhello\r\n0\r\na: b\r\n c\r\n\r\nnext", [])
def test_chunk_decoder_reads_any_body_as_h11_does(body: bytes, where: list[int]) -> None:
    pieces = cut(body, where)
    assert read(ChunkDecoder(), ReceiveBuffer(), pieces) == read(ChunkedReader(), ReceiveBuffer(), pieces)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\nnext",
        b"5;x\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"5\r\nhello\rx",
        b"5\r\nhellox\n",
        b"5\nhello\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("buffer", [ReceiveBuffer, CrlfBuffer])
def test_chunk_decoder_reads_a_body_in_any_three_pieces_as_h11_does(body: bytes, buffer: type[ReceiveBuffer]) -> None:
    whole = read(ChunkedReader(), buffer(), [body])
    for first in range(len(body)):
        for second in range(first, len(body)):
            pieces = [body[:first], body[first:second], body[second:]]
            assert read(ChunkDecoder(), buffer(), pieces) == read(ChunkedReader(), buffer(), pieces)
            assert read(ChunkDecoder(), buffer(), pieces)[1] == whole[1]


def test_chunk_decoder_end_of_connection_raises_a_protocol_error() -> None:
    with pytest.raises(h11.RemoteProtocolError):
        ChunkDecoder().read_eof()


@pytest.mark.parametrize("body", [b"CANARY\r\n", b"3\r\nabcCANARY", b"0\r\nCANARY\r\n\r\n"])
def test_chunk_decoder_error_does_not_quote_the_body(body: bytes) -> None:
    decoder, buffer = ChunkDecoder(), ReceiveBuffer()
    buffer += body
    with pytest.raises(h11.RemoteProtocolError) as raised:
        list(iter(lambda: decoder(buffer), None))
    assert "CANARY" not in str(raised.value)


def test_chunk_decoder_is_between_chunks_only_before_a_size_line() -> None:
    decoder, buffer = ChunkDecoder(), ReceiveBuffer()
    positions = []
    for byte in b"5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n":
        buffer += bytes([byte])
        while decoder(buffer) is not None:
            pass
        positions.append(decoder.is_between_chunks and not buffer)
    size_line, chunk, last = [False] * 3, [False] * 6, [False] * 5
    assert positions == [*size_line, *chunk, True, *size_line, *[False] * 2, True, *last]


def test_chunk_decoder_inside_a_chunk_finds_no_whole_chunks() -> None:
    decoder, buffer = ChunkDecoder(), ReceiveBuffer()
    chunk = chunked(TOKEN)
    for begun in range(1, len(chunk)):
        decoder, buffer = ChunkDecoder(), ReceiveBuffer()
        buffer += chunk[:begun]
        while decoder(buffer) is not None:
            pass
        assert buffer or decoder.whole_chunks(chunk) == ([], []), begun


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_whole_chunks_contain_what_h11_reads(contents: list[bytes]) -> None:
    data = b"".join(map(chunked, contents))
    chunks, ends = ChunkDecoder().whole_chunks(data)
    assert chunks == contents
    assert [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)] == list(map(chunked, contents))
    assert read(ChunkedReader(), ReceiveBuffer(), [data]) == (b"".join(contents), "goes on", b"")


@given(bodies())
def test_whole_chunks_of_any_body_are_a_prefix_of_what_h11_reads(body: bytes) -> None:
    chunks, ends = ChunkDecoder().whole_chunks(body)
    assert b"".join(map(chunked, chunks)) == body[: ends[-1] if ends else 0]
    assert read(ChunkedReader(), ReceiveBuffer(), [body])[0].startswith(b"".join(chunks))


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n\r\n",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"5\r\nhello\n\n",
        b"05\r\nhello\r\n",
        b"A\r\nhellohello\r\n",
        b"5 \r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"5;x\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"1_0\r\n" + b"x" * 16 + b"\r\n",
        b"-1\r\n\r\n",
        b"-2\r\n",
        b"5\nhello\r\n",
        b"\r\nhello\r\n",
        b"f" * 14 + b"\r\nhello\r\n",
        b"f" * 17 + b"\r\nhello\r\n",
        b"hello",
        b"\xb2\r\nhe\r\n",
    ],
)
def test_whole_chunks_exclude_incomplete_or_noncanonical_chunks(data: bytes) -> None:
    assert ChunkDecoder().whole_chunks(data) == ([], [])
    assert ChunkDecoder().whole_chunks(chunked(TOKEN) + data) == ([TOKEN], [len(chunked(TOKEN))])


def test_whole_chunks_negative_size_does_not_move_backwards() -> None:
    """It would lead there again and again, and the proxy would do nothing else any more."""
    event = chunked(TOKEN)
    back = b"-%x\r\n" % (len(event) + len(b"-xx\r\n") + 2)
    assert len(back) == len(b"-xx\r\n")
    for data in (event + event + back, event + event + back + event):
        assert ChunkDecoder().whole_chunks(data) == ([TOKEN, TOKEN], [len(event), 2 * len(event)])


def chunked(content: bytes) -> bytes:
    return b"%x\r\n" % len(content) + content + b"\r\n"
