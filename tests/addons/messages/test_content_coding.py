import pytest
from mitmproxy import http

from addons.messages.content_coding import is_not_encoded


@pytest.mark.parametrize(
    ("coding", "expected"),
    [(None, True), ("identity", True), ("None", True), ("", True), (" identity ", True), ("gzip", False), ("x", False)],
)
def test_content_coding_absent_or_identity_counts_as_not_encoded(coding: str | None, expected: bool) -> None:
    message = http.Request.make("POST", "http://x/")
    if coding is not None:
        message.headers["content-encoding"] = coding
    assert is_not_encoded(message) is expected


@pytest.mark.parametrize("coding", ["identity", "none"])
def test_mitmproxy_treats_identity_and_none_as_no_content_coding(coding: str) -> None:
    message = http.Request.make("POST", "http://x/")
    message.headers["content-encoding"] = coding
    message.content = b"plain"
    assert message.raw_content == b"plain"
    assert message.headers["content-encoding"] == coding
