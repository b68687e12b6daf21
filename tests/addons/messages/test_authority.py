import pytest

from addons.messages.authority import authority


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("http", "vllm", 8000, "vllm:8000"),
        ("http", "vllm", 80, "vllm"),
        ("https", "vllm", 443, "vllm"),
        ("https", "vllm", 80, "vllm:80"),
        ("http", "::1", 9000, "[::1]:9000"),
        ("http", "::1", 80, "[::1]"),
        ("http", "[::1]", 9000, "[::1]:9000"),
        ("http", "192.0.2.1", 9000, "192.0.2.1:9000"),
    ],
)
def test_authority_brackets_an_ipv6_address_and_omits_the_default_port(
    scheme: str, host: str, port: int, expected: str
) -> None:
    assert authority(scheme, host, port) == expected
