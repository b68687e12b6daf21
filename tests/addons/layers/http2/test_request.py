import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net.http.http1.assemble import assemble_request_head

from addons.layers.http2.request import MAX_HEADER_LINES, Http2RequestError, http1_request

GOOD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"proxy:8443"), (b":path", b"/v1/x?a=%20&b")]

ODD = st.binary(max_size=12) | st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b"x\r\ny: z",
        b"/ HTTP/1.1\r\n\r\n",
        b"close",
        b"chunked",
        b"0",
        b"5",
        b"+5",
        b"5, 5",
    ]
)
NAMES = st.sampled_from(
    [
        *(name for name, _ in GOOD),
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"te",
        b"x-ok",
        b"Upper",
        b":protocol",
    ]
)


def test_http2_request_with_valid_fields_becomes_an_http1_request() -> None:
    request = http1_request([*GOOD, (b"x-a", b"1"), (b"te", b"trailers"), (b"x-a", b"2")], has_body=True)
    assert assemble_request_head(request) == (
        b"POST /v1/x?a=%20&b HTTP/1.1\r\nhost: proxy:8443\r\nx-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    )


def test_http2_request_without_authority_uses_host() -> None:
    fields = [field for field in GOOD if field[0] != b":authority"]
    request = http1_request([*fields, (b"x", b"y"), (b"host", b"proxy")], has_body=False)
    assert request.headers.fields == ((b"host", b"proxy"), (b"x", b"y"))
    assert http1_request([*GOOD, (b"host", b"proxy:8443")], has_body=False).headers["host"] == "proxy:8443"


@pytest.mark.parametrize(
    ("length", "has_body", "framing"),
    [
        (None, False, {}),
        (None, True, {"transfer-encoding": "chunked"}),
        (b"0", False, {"content-length": "0"}),
        (b"0", True, {"content-length": "0"}),
        (b"7", True, {"content-length": "7"}),
    ],
)
def test_http2_request_body_is_framed_by_length_or_chunked(
    length: bytes | None, has_body: bool, framing: dict[str, str]
) -> None:
    fields = GOOD if length is None else [*GOOD, (b"content-length", length)]
    headers = http1_request(fields, has_body=has_body).headers
    assert {name: headers[name] for name in ("content-length", "transfer-encoding") if name in headers} == framing


def test_http2_request_with_content_length_and_no_body_is_refused() -> None:
    with pytest.raises(Http2RequestError, match="content-length"):
        http1_request([*GOOD, (b"content-length", b"7")], has_body=False)


@pytest.mark.parametrize(
    ("name", "value"), [(b":method", b"post"), (b":path", b"/a#b"), (b":path", b"*"), (b":path", b"")]
)
def test_http2_request_with_an_ambiguous_method_or_path_is_refused(name: bytes, value: bytes) -> None:
    fields = [(key, value if key == name else old) for key, old in GOOD]
    with pytest.raises(Http2RequestError):
        http1_request(fields, has_body=False)


def test_http2_request_with_too_many_header_lines_is_refused() -> None:
    fields = [*GOOD, *[(b"x", b"y")] * (MAX_HEADER_LINES - 1)]
    assert len(http1_request(fields, has_body=False).headers.fields) == MAX_HEADER_LINES
    with pytest.raises(Http2RequestError):
        http1_request([*fields, (b"x", b"y")], has_body=False)


@given(
    st.lists(st.tuples(NAMES | ODD, ODD), max_size=3),
    st.sampled_from(range(len(GOOD) + 1)),
    st.none() | st.tuples(st.integers(0, 3), ODD),
    st.booleans(),
)
def test_http2_request_with_any_fields_is_refused_or_means_one_http1_request(
    extra: list[tuple[bytes, bytes]], at: int, changed: tuple[int, bytes] | None, has_body: bool
) -> None:
    fields = list(GOOD)
    if changed is not None:
        fields[changed[0]] = (fields[changed[0]][0], changed[1])
    fields[at:at] = extra
    try:
        request = http1_request(fields, has_body=has_body)
    except Http2RequestError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(assemble_request_head(request))
    read = server.next_event()
    assert isinstance(read, h11.Request)
    asked = dict(fields)
    assert (read.method, read.target) == (asked[b":method"], asked[b":path"])
    framing = [name for name, _ in read.headers if name in (b"content-length", b"transfer-encoding")]
    assert len(framing) == 1 if has_body else framing in ([], [b"content-length"])
    assert server.trailing_data == (b"", False)
