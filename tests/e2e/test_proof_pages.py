"""The proof pages, on both ports of a real proxy."""

import http.client
import json
import os
import select
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.support.processes import SCRIPT, Proxy, running_proxy, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.support.limits import limit

PAGES = [
    "/",
    "/version",
    "/health",
    "/ready",
    "/v1/signature/unknown",
    "/metrics",
    "/openapi.json",
    "/proof-page/page.js",
    "/proof-page/unknown",
    "/v1/attestation/report",
]


def get(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit())
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def names_of(metrics: bytes) -> set[str]:
    return {family.name for family in text_string_to_metric_families(metrics.decode())}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_proof_pages_are_identical_on_both_ports(proxy: Proxy, path: str, method: str) -> None:
    proxied, side = get(proxy.port, path, method), get(proxy.side_port, path, method)
    assert proxied[0] == side[0]
    if path == "/metrics" and method == "GET":  # they go on while they are asked for
        assert names_of(proxied[2]) == names_of(side[2])
        return
    assert proxied[2] == side[2]
    for name in ("content-type", "content-length", "www-authenticate", "allow"):
        if path == "/metrics" and name == "content-length":
            continue
        assert proxied[1].get(name) == side[1].get(name)


def test_front_page_is_identical_on_both_ports_and_revalidated_by_etag(proxy: Proxy) -> None:
    shown = set()
    for port in (proxy.port, proxy.side_port):
        with RawClient(port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
            status, headers, body = client.read_response("GET")
            assert (status, headers["content-type"], headers["vary"]) == (200, "text/html; charset=utf-8", "Accept")
            asked = f"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nIf-None-Match: {headers['etag']}\r\n\r\n"
            client.send(asked.encode())
            status, kept, nothing = client.read_response("GET")
            assert (status, kept["etag"], kept["vary"], nothing) == (304, headers["etag"], "Accept", b"")
            shown.add((body, headers["etag"], headers["content-security-policy"]))
    assert len(shown) == 1


def test_status_pages_report_health_readiness_and_version(proxy: Proxy) -> None:
    with Asker(proxy.port) as asker:
        assert asker.get("/", token=None)[2]["status"] == "ok"
        assert asker.get("/health", token=None)[2] == {"status": "ok"}
        assert asker.get("/ready", token=None)[2] == {
            "status": "ready",
            "keys": True,
            "upstream": True,
            "signature_store": "ok",
        }
        version = asker.get("/version", token=None)[2]
    assert version["version"]
    assert len(version["git_revision"]) == 40


def test_status_pages_respond_while_the_upstream_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        upstream = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with running_proxy(upstream) as proxy:
        for port in (proxy.port, proxy.side_port):
            status, _, body = get(port, "/ready")
            assert (status, json.loads(body)["upstream"]) == (503, False)
            assert get(port, "/health")[0] == 200


def test_ready_waiting_for_a_hanging_upstream_blocks_no_other_request() -> None:
    """`/ready` blocks for its timeout; on the event loop, it would block everything."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts, and never says a word
        with running_proxy(f"http://127.0.0.1:{hanging.getsockname()[1]}") as stuck:
            with RawClient(stuck.port) as waiting, Asker(stuck.port) as asker:
                waiting.send(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
                silent, _ = hanging.accept()  # now it waits
                assert asker.get("/health", token=None)[0] == 200
                assert not select.select([waiting.sock], [], [], 0)[0], "it should still be waiting"
                assert waiting.read_response("GET")[0] == 503
                silent.close()


def test_large_body_for_a_proof_page_gets_413(proxy: Proxy) -> None:
    status, _, body = get(proxy.port, "/version", "POST", b"x" * 100_000)
    assert status == 413
    assert error_of(body)["type"] == "payload_too_large"


def test_side_port_in_use_fails_the_start_with_a_one_line_error(fake_vllm: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_proxy(fake_vllm, ATTEST_PORT=str(port))
        assert process.wait() == 1
    [line] = [line for line in process.output.splitlines() if "ATTEST_PORT" in line]
    assert f"ATTEST_PORT {port} cannot be opened: Address already in use" in line
    assert "Traceback" not in process.output


def test_side_port_closes_when_the_proxy_stops(fake_vllm: str) -> None:
    with running_proxy(fake_vllm) as proxy:
        assert get(proxy.side_port, "/health")[0] == 200
        side_port = proxy.side_port
        with RawClient(side_port) as idle:
            proxy.process.stop()
            assert idle.read_to_end() == b""
    with pytest.raises(ConnectionRefusedError):
        get(side_port, "/health")


def test_script_reload_releases_and_reopens_the_side_port(
    fake_vllm: str, tmp_path: Path, free_ports: list[int]
) -> None:
    """mitmproxy loads a script again when its file changes."""
    script = tmp_path / "tee_signer.py"
    script.write_bytes(SCRIPT.read_bytes())
    with running_proxy(fake_vllm, program="mitmdump", script=str(script), ATTEST_PORT=str(free_ports[0])) as proxy:
        os.utime(script, (time.time() + 5, time.time() + 5))
        proxy.process.wait_for("(?s)(proof pages on side port.*){2}")
        assert get(proxy.side_port, "/health")[0] == 200
        assert get(proxy.port, "/health")[0] == 200


def test_a_signature_needs_a_token_on_both_ports(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        client.send(chat_request(chat_body()))
        _, _, body = client.read_response()
    chat_id = json.loads(body)["id"]
    for port in (proxy.port, proxy.side_port):
        with Asker(port) as asker:
            assert asker.get(f"/v1/signature/{chat_id}")[0] == 200
            for token in (None, "wrong"):
                status, headers, answer = asker.get(f"/v1/signature/{chat_id}", token=token)
                assert status == 401
                assert headers["WWW-Authenticate"] == "Bearer"
                assert error_of(json.dumps(answer).encode())["type"] == "unauthorized"
