import socket

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.test import taddons

from addons.layers.reverse_proxy import option_problems, upstream_base_url


def options(mode: str, **others: object) -> Options:
    with taddons.context(Proxyserver()) as context:
        made: Options = context.options
        made.update(mode=[mode], **others)
        return made


@pytest.mark.parametrize(
    "mode", ["reverse:http://vllm:8000", "reverse:https://192.0.2.1", "reverse:http://localhost:9999"]
)
def test_a_reverse_proxy_to_http_or_https_is_fine(mode: str) -> None:
    assert option_problems(options(mode, listen_port=8000)) == []


@pytest.mark.parametrize(
    "mode", ["regular", "socks5", "reverse:tcp://vllm:1", "reverse:http3://vllm:1", "upstream:http://x:1"]
)
def test_any_other_mode_is_a_problem_that_says_what_to_do(mode: str) -> None:
    [problem] = option_problems(options(mode))
    assert "reverse:http://HOST:PORT" in problem


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "0.0.0.0", "[::1]", socket.gethostname()])
def test_the_proxys_own_address_is_a_problem(host: str) -> None:
    [problem] = option_problems(options(f"reverse:http://{host}:8000", listen_port=8000))
    assert "own address" in problem
    assert "VLLM_BASE_URL" in problem


def test_another_port_of_this_machine_is_fine() -> None:
    assert option_problems(options("reverse:http://localhost:8000@8001", listen_port=8000)) == []


@pytest.mark.parametrize(
    "option",
    [
        {"stream_large_bodies": "1m"},
        {"body_size_limit": "1m"},
        {"validate_inbound_headers": False},
    ],
)
def test_options_that_would_do_harm_are_problems(option: dict[str, object]) -> None:
    [problem] = option_problems(options("reverse:http://vllm:8000", **option))
    assert next(iter(option)) in problem


@pytest.mark.parametrize(
    ("mode", "url"),
    [
        ("reverse:http://vllm:8000", "http://vllm:8000"),
        ("reverse:https://vllm", "https://vllm:443"),
        ("reverse:http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_the_upstreams_address_is_read_from_the_mode(mode: str, url: str) -> None:
    assert upstream_base_url([mode]) == url
