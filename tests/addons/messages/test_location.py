"""An upstream's redirects and other references, rewritten for the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.messages.location import ClientUrl, UpstreamUrl, for_client

BASE = UpstreamUrl("http", "vllm", 8000, b"/v1/models/")
ASKED = ClientUrl(b"https", b"chat.example", b"/v1/models/")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (b"http://vllm:8000/v1/models", b"https://chat.example/v1/models"),
        (b"HTTP://VLLM:8000/v1/models?a=b#c", b"https://chat.example/v1/models?a=b#c"),
        (b"//vllm:8000/v1/models", b"https://chat.example/v1/models"),
        (b"http://vllm:08000/x", b"https://chat.example/x"),
        (b"http://vllm:8000", b"https://chat.example"),
        (b"http://vllm:8000?a", b"https://chat.example?a"),
        (b"http://user:secret@vllm:8000/x", b"https://chat.example/x"),
        (b"http://vllm:8000//evil.example/x", b"https://chat.example//evil.example/x"),
        (b"http://vllm:8000/caf\xc3\xa9 \xff", b"https://chat.example/caf\xc3\xa9 \xff"),
    ],
)
def test_location_naming_the_upstream_is_rewritten_to_the_clients_address(location: bytes, expected: bytes) -> None:
    assert for_client(location, BASE, ASKED) == expected


@pytest.mark.parametrize(
    "location",
    [
        b"/v1/models",
        b"../models",
        b"?page=2",
        b"",
        b"https://vllm:8000/v1/models",  # another origin (RFC 6454)
        b"http://vllm:8001/v1/models",
        b"http://vllm/v1/models",
        b"http://vllm.example:8000/v1/models",
        b"http://vllm:8000@evil.example/",
        b"http://evil.example/http://vllm:8000/",
        b"http://vllm:8000\\@evil.example/",
        b"http://vllm:800000/",
        b"http://[::1/",
        b"ftp://vllm:8000/x",
        b"mailto:vllm",
        b"http:/vllm:8000/x",
    ],
)
def test_location_relative_or_naming_another_origin_is_unchanged(location: bytes) -> None:
    assert for_client(location, BASE, ASKED) == location


@pytest.mark.parametrize(
    ("forwarded", "location"),
    [
        (UpstreamUrl("http", "vllm", 80, b"/x"), b"http://vllm/y"),
        (UpstreamUrl("http", "vllm", 80, b"/x"), b"http://vllm:80/y"),
        (UpstreamUrl("http", "vllm", 80, b"/x"), b"http://vllm:/y"),
        (UpstreamUrl("https", "vllm", 443, b"/x"), b"https://vllm/y"),
        (UpstreamUrl("https", "vllm", 443, b"/x"), b"//vllm/y"),
        (UpstreamUrl("http", "::1", 9000, b"/x"), b"http://[::1]:9000/y"),
        (UpstreamUrl("http", "::1", 9000, b"/x"), b"http://[0:0:0:0:0:0:0:1]:9000/y"),
        (UpstreamUrl("http", "2001:db8::A", 80, b"/x"), b"http://[2001:DB8::a]/y"),
    ],
)
def test_location_default_ports_and_ipv6_addresses_are_recognised_in_any_form(
    forwarded: UpstreamUrl, location: bytes
) -> None:
    assert for_client(location, forwarded, ClientUrl(b"http", b"[::1]:8000", b"/x")) == b"http://[::1]:8000/y"


@pytest.mark.parametrize(
    ("forwarded", "asked", "location", "expected"),
    [
        (b"/api/rerank", b"/v1/rerank", b"/api/rerank/", b"/v1/rerank/"),
        (b"/api/rerank", b"/v1/rerank", b"/api/rerank?x", b"/v1/rerank?x"),
        (b"/api/rerank", b"/v1/rerank", b"/api/jobs/1", b"/v1/jobs/1"),
        (b"/api/rerank", b"/v1/rerank", b"/apis/jobs/1", b"/apis/jobs/1"),
        (b"/base/v1/rerank", b"/v1/rerank", b"/base/v1/models", b"/v1/models"),
        (b"/tokenize", b"/v1/tokenize", b"/tokenize/", b"/v1/tokenize/"),
        (b"/tokenize", b"/v1/tokenize", b"/v1/models", b"/v1/models"),
        (b"/rank", b"/v1/rerank", b"/rank/1", b"/v1/rerank/1"),
        (b"/v1/images/generations", b"/v1/images/generations", b"/v1/images/1", b"/v1/images/1"),
    ],
)
def test_location_of_an_endpoint_of_another_server_gets_the_proxys_path(
    forwarded: bytes, asked: bytes, location: bytes, expected: bytes
) -> None:
    found = for_client(
        b"http://other:9000" + location,
        UpstreamUrl("http", "other", 9000, forwarded),
        ClientUrl(b"http", b"proxy:1", asked),
    )
    assert found == b"http://proxy:1" + expected


@pytest.mark.parametrize("authority", [b"", b"a b", b"user@host", b"x/y", b"host:port", b"a\xff", b"[::1"])
def test_location_without_a_usable_client_host_becomes_a_path(authority: bytes) -> None:
    asked = ClientUrl(b"http", authority, b"/v1/models/")
    assert for_client(b"http://vllm:8000/v1/models?x", BASE, asked) == b"/v1/models?x"
    assert for_client(b"http://vllm:8000", BASE, asked) == b"/"
    assert for_client(b"http://vllm:8000//evil.example/x", BASE, asked) == b"/.//evil.example/x"


parts = st.sampled_from([b"http:", b"https:", b"//", b"vllm", b":8000", b"/", b"@", b"evil", b"?", b"#", b"\\", b"["])


@given(st.one_of(st.binary(max_size=40), st.lists(parts, max_size=9).map(b"".join)), st.sampled_from([b"", b"host:1"]))
def test_location_of_any_bytes_is_unchanged_or_leads_to_the_clients_address(location: bytes, authority: bytes) -> None:
    found = for_client(location, BASE, ClientUrl(b"https", authority, b"/v1/models/"))
    if found != location:
        assert found.startswith(b"https://host:1" if authority else b"/")
        assert not found.startswith(b"//")
        assert b"vllm:8000" in location.lower()
