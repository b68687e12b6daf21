import pytest
from mitmproxy import http

from addons.messages.framing import Fields, frame_as, frame_by_chunks, frame_by_length, framing_of

LENGTH = (b"Content-Length", b"5")
CHUNKED = (b"transfer-encoding", b"chunked")
OTHER = (b"X-Length", b"7")


@pytest.mark.parametrize(
    ("framing", "size"),
    [((LENGTH,), 5), ((CHUNKED,), 5), ((CHUNKED,), 0), ((), 0), (((b"content-length", b"0"),), 0)],
)
def test_frame_by_length_leaves_correct_framing_unchanged(framing: Fields, size: int) -> None:
    headers = http.Headers((*framing, OTHER))
    before = headers.fields
    frame_by_length(headers, size)
    assert headers.fields is before


@pytest.mark.parametrize(
    "framing",
    [
        (),
        (LENGTH,),
        ((b"CONTENT-LENGTH", b"05"),),
        (LENGTH, LENGTH),
        (LENGTH, CHUNKED),
        ((b"Transfer-Encoding", b"gzip"),),
        ((b"Content-Length", b"\xff"),),
    ],
)
def test_frame_by_length_replaces_incorrect_framing_with_content_length(framing: Fields) -> None:
    headers = http.Headers((OTHER, *framing))
    frame_by_length(headers, 6)
    assert headers.fields == (OTHER, (b"Content-Length", b"6"))


@pytest.mark.parametrize("changed", [(), (CHUNKED,), (LENGTH, LENGTH), ((b"Content-Length", b"6"),)])
def test_frame_as_restores_the_framing_received(changed: Fields) -> None:
    headers = http.Headers((OTHER, *changed))
    frame_as(headers, (LENGTH,))
    assert framing_of(headers) == (LENGTH,)
    assert headers.fields[0] == OTHER


@pytest.mark.parametrize("framing", [(), (LENGTH,), (LENGTH, CHUNKED), (CHUNKED, CHUNKED)])
def test_frame_by_chunks_replaces_other_framing(framing: Fields) -> None:
    headers = http.Headers((*framing, OTHER))
    frame_by_chunks(headers)
    assert headers.fields == (OTHER, (b"Transfer-Encoding", b"chunked"))


def test_frame_by_chunks_leaves_chunked_framing_unchanged() -> None:
    fields = ((b"transfer-encoding", b"Chunked"), OTHER)
    headers = http.Headers(fields)
    frame_by_chunks(headers)
    assert headers.fields == fields
