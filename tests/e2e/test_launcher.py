"""`tee-signer`: what it takes on its command line, and what it refuses."""

import pytest

from tests.e2e.support.processes import START_TIMEOUT, running_proxy, start_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-w", "flows"], 2, "unrecognized arguments: -w flows"),
        (["--set", "flow_detail=3"], 1, "tee-signer: --set flow_detail: there is no such option here"),
        (["--set", "mode=regular"], 1, "tee-signer: --set mode: set VLLM_BASE_URL in the environment"),
        (["--set", "tcp_timeout=soon"], 1, "tee-signer: Failed to parse option tcp_timeout: not an integer"),
        (["--set", "body_size_limit=1m"], 1, "the option body_size_limit must be None"),
    ],
)
def test_unsupported_argument_is_named_in_the_error(
    fake_vllm: str, arguments: list[str], status: int, said: str
) -> None:
    process = start_proxy(fake_vllm, *arguments, program="tee-signer")
    assert process.wait(START_TIMEOUT) == status, process.output
    assert said in process.output
    assert "Traceback" not in process.output


def test_connections_are_logged_only_with_the_verbose_option(fake_vllm: str) -> None:
    for arguments, expected in (([], False), (["-v"], True)):
        with running_proxy(fake_vllm, *arguments, program="tee-signer") as proxy:
            with RawClient(proxy.port) as client:
                client.send(chat_request(chat_body("hi")))
                assert client.read_response()[0] == 200
        assert ("client connect" in proxy.process.output) is expected
