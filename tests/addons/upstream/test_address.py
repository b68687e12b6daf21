import socket
import ssl
from urllib.parse import urlsplit

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.test import taddons

from addons.upstream.address import (
    mode_problems,
    override_problems,
    side_port_problems,
    upstream_base_url,
    upstream_tls,
)


def options(mode: str, **others: object) -> Options:
    with taddons.context(Proxyserver()) as context:
        made: Options = context.options
        made.update(mode=[mode], **others)
        return made


@pytest.mark.parametrize(
    "mode", ["reverse:http://vllm:8000", "reverse:https://192.0.2.1", "reverse:http://localhost:9999"]
)
def test_mode_problems_of_a_reverse_proxy_to_http_or_https_are_none(mode: str) -> None:
    assert mode_problems(options(mode, listen_port=8000)) == []


@pytest.mark.parametrize(
    "mode", ["regular", "socks5", "reverse:tcp://vllm:1", "reverse:http3://vllm:1", "upstream:http://x:1"]
)
def test_mode_problems_of_another_mode_say_what_to_do(mode: str) -> None:
    [problem] = mode_problems(options(mode))
    assert "reverse:http://HOST:PORT" in problem


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "0.0.0.0", "[::1]", socket.gethostname()])
def test_mode_problems_report_the_proxys_own_address(host: str) -> None:
    [problem] = mode_problems(options(f"reverse:http://{host}:8000", listen_port=8000))
    assert "own address" in problem
    assert "VLLM_BASE_URL" in problem


def test_mode_problems_of_another_local_port_are_none() -> None:
    assert mode_problems(options("reverse:http://localhost:8000@8001", listen_port=8000)) == []


@pytest.mark.parametrize(
    ("mode", "url"),
    [
        ("reverse:http://vllm:8000", "http://vllm:8000"),
        ("reverse:https://vllm", "https://vllm:443"),
        ("reverse:http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_upstream_base_url_is_read_from_the_mode(mode: str, url: str) -> None:
    assert upstream_base_url([mode]) == url


@pytest.mark.parametrize(
    ("port", "problem"), [(8001, []), (8000, ["ATTEST_PORT 8000 is the port that clients use, too; set another"])]
)
def test_side_port_problems_report_a_port_shared_with_clients(port: int, problem: list[str]) -> None:
    assert side_port_problems(options("reverse:http://vllm:9000", listen_port=8000), port) == problem


@pytest.mark.parametrize(
    ("host", "is_own"), [("127.0.0.1", True), ("192.0.2.1", False), ("no.such.host.invalid", False)]
)
def test_override_problems_report_an_override_to_the_proxy_itself(host: str, is_own: bool) -> None:
    own = options("reverse:http://vllm:9000", listen_port=8000)
    problems = override_problems(own, {"/v1/rerank": urlsplit(f"http://{host}:8000/rerank")})
    assert bool(problems) is is_own
    assert override_problems(own, {"/v1/rerank": urlsplit(f"http://{host}:8001/rerank")}) == []


@pytest.mark.parametrize(("given", "verify_mode"), [({}, ssl.CERT_REQUIRED), ({"ssl_insecure": True}, ssl.CERT_NONE)])
def test_upstream_tls_follows_mitmproxys_ssl_insecure_option(
    given: dict[str, object], verify_mode: ssl.VerifyMode
) -> None:
    context = upstream_tls(options("reverse:https://vllm", **given))
    assert context.verify_mode is verify_mode
    assert context.check_hostname is (verify_mode is ssl.CERT_REQUIRED)
    assert context.get_ca_certs() != []
