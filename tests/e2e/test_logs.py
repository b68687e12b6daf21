"""The log of real proxies: a line for each request, as text or JSON, and nothing that was said."""

import json
import re
from typing import Any

import pytest

from tests.e2e.support.processes import MODEL, PROGRAMS, TOKEN, Proxy, Simulator, running_proxy, start_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.workers import started

SECRET = "canary-9d1f"


def lines_of(proxy: Proxy) -> list[dict[str, Any]]:
    """The lines of JSON that the proxy has written."""
    return [json.loads(line) for line in proxy.process.output.splitlines() if line.startswith("{")]


def talk(proxy: Proxy) -> None:
    """A stream, a chat that the model server refuses, one without a token."""
    with RawClient(proxy.port) as client:
        client.send(chat_request(chat_body(stream=True, stream_options={"include_usage": True}), x_request_id="my-1"))
        assert b"[DONE]" in client.read_response()[2]
        refused = json.dumps({"model": MODEL, "messages": SECRET}).encode()
        client.send(chat_request(refused, x_request_id="my-2"))
        assert client.read_response()[0] == 400
        client.send(chat_request(chat_body(SECRET), token="wrong-" + SECRET, x_request_id="my-3"))
        assert client.read_response()[0] == 401


@pytest.mark.parametrize("program", PROGRAMS)
def test_json_log_has_an_object_per_line_and_a_line_per_request(fake_vllm: str, program: str) -> None:
    with running_proxy(fake_vllm, program=program, LOG_FORMAT="json") as proxy:
        talk(proxy)
        proxy.process.wait_for('"my-3"')
        lines = lines_of(proxy)
    text = [line for line in proxy.process.output.splitlines() if line and not line.startswith("{")]
    assert len(text) <= 1, "mitmdump says that it loads the script before there are settings"
    assert all({"timestamp", "level", "logger", "event"} <= line.keys() for line in lines)
    stream, refused, no_token = [line for line in lines if line["event"] == "request"]
    assert stream["request_id"] == "my-1"
    assert (stream["route"], stream["method"], stream["status"]) == ("/v1/chat/completions", "POST", 200)
    assert stream["signature"] == "signed"
    assert re.fullmatch(r"rcpt-[0-9a-f]{24}", stream["receipt_id"])
    assert stream["input_tokens"] > 0
    assert stream["output_tokens"] > 0
    assert 0 < stream["time_to_first_token_seconds"] <= stream["duration_seconds"]
    assert stream["time_between_tokens_seconds"] >= 0
    assert stream["client"].startswith("127.0.0.1:")
    assert stream["upstream_status"] == 200
    assert refused["upstream_status"] == refused["status"] == 400
    assert refused["signature"] == "unsigned"
    assert refused["reason"] == "the upstream answered with an error"
    assert refused["upstream_error"].startswith("BadRequestError: ")
    assert no_token["status"] == 401
    assert "upstream_status" not in no_token
    assert SECRET not in proxy.process.output
    assert TOKEN not in proxy.process.output


@pytest.mark.parametrize("program", PROGRAMS)
def test_text_log_has_a_readable_line_per_request(fake_vllm: str, program: str) -> None:
    with running_proxy(fake_vllm, program=program) as proxy:
        talk(proxy)
        proxy.process.wait_for("request my-3")
    said = proxy.process.output
    assert re.search(
        r"POST /v1/chat/completions 200 in \d+\.\d{3} s, first token after \d+\.\d{3} s, tokens \d+ in \d+ out, "
        r"signed rcpt-[0-9a-f]{24}, request my-1\n",
        said,
    )
    assert re.search(r"400 in .*, not signed: .*, the model server says BadRequestError: .*, request my-2\n", said)
    assert re.search(r"POST /v1/chat/completions 401 in \d+\.\d{3} s, request my-3\n", said)
    assert SECRET not in said


def test_json_log_lines_carry_the_worker_number(fake_vllm: str) -> None:
    with started(fake_vllm, workers=2, LOG_FORMAT="json") as proxy:
        talk(proxy)
        proxy.process.wait_for('"my-3"')
        lines = lines_of(proxy)
        proxy.process.stop()
    assert {line["worker"] for line in lines if "worker" in line} == {1, 2}
    assert all(line.startswith("{") for line in proxy.process.output.splitlines() if line)


AS_RUN = [("mitmdump", ()), ("tee-signer", ()), ("tee-signer", ("--workers", "2"))]


@pytest.mark.parametrize(("program", "arguments"), AS_RUN, ids=["mitmdump", "tee-signer", "workers"])
def test_simulator_password_is_never_logged(fake_vllm: str, program: str, arguments: tuple[str, ...]) -> None:
    endpoint = f"http://me:{SECRET}@127.0.0.1:1"
    process = start_proxy(
        fake_vllm, "-v", *arguments, program=program, DEV="0", DSTACK_SIMULATOR_ENDPOINT=endpoint, TLS_FROM_DSTACK="1"
    )
    assert process.wait() == 1
    assert process.output.count("keys and quotes come from http://127.0.0.1:1 in place of") == 1
    assert "it was asked at http://127.0.0.1:1" in process.output
    assert SECRET not in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("program", PROGRAMS)
def test_requests_to_dstack_are_not_logged(fake_vllm: str, simulator: Simulator, program: str) -> None:
    settings = {"DEV": "0", "TLS_FROM_DSTACK": "1"} | simulator.settings
    with running_proxy(fake_vllm, "-v", program=program, **settings) as proxy:
        said = proxy.process.output
    assert "HTTP Request" not in said
    assert "Using simulator endpoint" not in said
    assert "send_request_headers" not in said
    assert said.count("DSTACK_SIMULATOR_ENDPOINT is set") == 1


def test_simulator_warning_with_two_workers_is_logged_once(fake_vllm: str, simulator: Simulator) -> None:
    with started(fake_vllm, workers=2, DEV="0", **simulator.settings) as proxy:
        said = proxy.process.output
    assert "HTTP Request" not in said
    assert said.count("DSTACK_SIMULATOR_ENDPOINT is set") == 1


@pytest.mark.parametrize("command", ["mitmdump", "tee-signer", "tee-signer --workers=1"])
def test_log_level_filters_the_log_in_every_program(fake_vllm: str, command: str) -> None:
    program, *more = command.split()
    process = start_proxy(fake_vllm, *more, program=program, LOG_LEVEL="error", RATE_LIMIT_PER_SECOND="-1")
    assert process.wait() != 0
    assert "RATE_LIMIT_PER_SECOND" in process.output
    process = start_proxy(fake_vllm, *more, program=program, LOG_LEVEL="warning", TLS_CERT_PATH="none.pem")
    process.wait_for("TLS_CERT_PATH without --certs")
    assert process.stop() == 0
    assert "signing as" not in process.output


def test_polled_pages_are_logged_only_when_they_fail(fake_vllm: str) -> None:
    with running_proxy(fake_vllm, LOG_FORMAT="json") as proxy:
        for path in ("/health", "/metrics", "/ready", "/version"):
            with RawClient(proxy.side_port) as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert client.read_response("GET")[0] == 200
        with RawClient(proxy.side_port) as client:
            client.send(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert client.read_response()[0] == 405
        proxy.process.wait_for('"status": 405')
        told = [(line["route"], line["status"]) for line in lines_of(proxy) if "route" in line]
    assert told == [("/version", 200), ("/health", 405)]
