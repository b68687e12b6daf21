"""Clients and upstreams that are gone without a word."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.support.processes import PROGRAMS, ROOT, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, ScriptedUpstream, chunk, events
from tests.e2e.support.vanishing import SCENARIOS
from tests.e2e.support.workers import until
from tests.support.limits import limit

KEEPALIVE = "02"
"""What /proc/net/tcp calls the timer of a connection that is probed (proc(5), and net/ipv4/tcp_ipv4.c)."""


def timers(address: int, port: int) -> list[str]:
    """The timers of the connections that have a port, here (1) or at the other side (2)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [line for line in lines if line[address].endswith(f":{port:04X}") and line[3] == "01"]
    return [line[5].partition(":")[0] for line in here]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_connection_accepted_or_opened_has_tcp_keepalive(program: str) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        first, *rest = events("chatcmpl-held", "a")
        peer.send(SSE_HEAD + chunk(first))
        go.wait(limit(20))
        peer.send(b"".join(map(chunk, rest)) + LAST_CHUNK)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, program=program) as proxy:
        with RawClient(proxy.port) as client, RawClient(proxy.side_port) as idle:
            client.send(chat_request(chat_body(stream=True)))
            client.read_until(b'"content":"a"')
            idle.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.read_response("GET")[0] == 200
            upstream_port = int(upstream.url.rpartition(":")[2])
            for address, port in ((1, proxy.port), (1, proxy.side_port), (2, upstream_port)):
                until(lambda address=address, port=port: timers(address, port) == [KEEPALIVE])  # type: ignore[misc]
            go.set()
            client.read_until(b"0\r\n\r\n")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_vanished_peer_is_detected_in_time(scenario: str, program: str) -> None:
    if subprocess.run(["unshare", "-rn", "ip", "link"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    command = ["unshare", "-rn", sys.executable, "-m", "tests.e2e.support.vanishing", scenario, program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit(60), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
