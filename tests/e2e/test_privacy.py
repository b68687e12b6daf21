"""At its most verbose, the proxy writes nothing of what clients and models say, and none of their tokens."""

import base64
import json
import signal
import urllib.request
from pathlib import Path

from tests.e2e.support.marked_traffic import ANSWER, MARKS, PROMPT, exercise, script
from tests.e2e.support.processes import TOKEN, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import (
    Peer,
    ScriptedUpstream,
)
from tests.support.limits import limit


def check_written(where: Path, output: str) -> None:
    """No mark, in any of the ways in which bytes are written down, in the output or in a file."""
    written = {"output": output.encode("utf-8", "surrogateescape")}
    written |= {path.name: path.read_bytes() for path in where.rglob("*") if path.is_file()}
    assert len(written["output"]) > 10_000, "it was not verbose at all"
    for mark in MARKS:
        raw = mark.encode()
        forms = [
            raw,
            raw.hex().encode(),
            raw.hex().upper().encode(),
            *(base64.b64encode(b" " * n + raw)[4:-4] for n in range(3)),
        ]
        for name, content in written.items():
            for form in forms:
                at = content.find(form)
                assert at < 0, f"{mark} is in {name}: {content[max(0, at - 300) : at + 100]!r}"


def test_verbose_log_and_saved_flows_contain_no_prompt_response_or_token(tmp_path: Path) -> None:
    verbose = ["-v", "--set", "proxy_debug=true", "--set", "flow_detail=4", "--set", "termlog_verbosity=debug"]
    saving = ["-w", str(tmp_path / "flows"), "--set", f"hardump={tmp_path / 'flows.har'}"]
    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, *verbose, *saving, program="mitmdump", HOME=str(tmp_path)) as proxy:
            exercise(proxy)
            with RawClient(proxy.port) as under_way:  # stopped with a request in flight
                under_way.send(chat_request(chat_body(PROMPT), X_What="json"))
                under_way.read_until(ANSWER.encode())
                proxy.process.stop(signal.SIGINT)
    assert (tmp_path / "flows").stat().st_size > 1000
    assert (tmp_path / "flows.har").stat().st_size > 1000
    check_written(tmp_path, proxy.process.output)


def test_inspect_plaintext_keeps_bodies_in_saved_flows_and_logs_a_warning(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, "-w", str(flows), program="mitmdump", INSPECT_PLAINTEXT="1") as proxy:
            for path in ("/v1/chat/completions", "/v1/audio/transcriptions"):
                with RawClient(proxy.port) as client:
                    client.send(chat_request(chat_body(PROMPT), path=path))
                    assert client.read_response()[0] == 200
    assert "prompts and answers stay in flows" in proxy.process.output
    saved = flows.read_bytes()
    assert (saved.count(PROMPT.encode()), saved.count(ANSWER.encode())) == (2, 2)
    assert TOKEN.encode() not in saved


def test_inspect_plaintext_under_tee_signer_logs_no_warning(fake_vllm: str) -> None:
    with running_proxy(fake_vllm, program="tee-signer", INSPECT_PLAINTEXT="1") as proxy:
        pass
    assert "DEV=1" in proxy.process.output
    assert "stay in flows" not in proxy.process.output


def test_request_in_flight_at_shutdown_is_saved_without_its_body(tmp_path: Path) -> None:
    def silent(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()

    flows = tmp_path / "flows"
    with ScriptedUpstream(silent) as upstream:
        with (
            running_proxy(upstream.url, "-w", str(flows), program="mitmdump") as proxy,
            RawClient(proxy.port) as client,
        ):
            client.send(chat_request(chat_body(PROMPT)))
            upstream.requests.get(timeout=limit())
            proxy.process.stop()
    saved = flows.read_bytes()
    assert b"/v1/chat/completions" in saved
    assert PROMPT.encode() not in saved
    assert TOKEN.encode() not in saved


def test_mitmweb_shows_no_prompt_while_the_request_is_in_flight(free_ports: list[int]) -> None:
    def silent(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()

    web = ["--no-web-open-browser", "--set", f"web_port={free_ports[0]}", "--set", "web_password=pw"]

    def shown(path: str) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{free_ports[0]}{path}", headers={"Authorization": "Bearer pw"}
        )
        with urllib.request.urlopen(request, timeout=limit()) as response:
            found: bytes = response.read()
            return found

    with ScriptedUpstream(silent) as upstream, running_proxy(upstream.url, *web, program="mitmweb") as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(PROMPT)))
            upstream.requests.get(timeout=limit())
            assert len(json.loads(shown("/flows"))) == 1
            for path in ("/flows", "/flows/dump"):  # the dump has the bodies, where there are any
                content = shown(path)
                assert PROMPT.encode() not in content
                assert TOKEN.encode() not in content
