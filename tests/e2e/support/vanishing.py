"""Peers that vanish, in a network of their own: `unshare -rn python -m tests.e2e.support.vanishing SCENARIO PROGRAM`.

A second address of the loopback device stands in for another machine. When it is gone, what is sent there arrives
nowhere, and nothing comes back: no FIN, no RST, no ICMP.
"""

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from tests.e2e.support.processes import TOKEN, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import SSE_HEAD, Peer, ScriptedUpstream, chunk, events

ELSEWHERE = "10.99.0.1"
IDLE, USER_TIMEOUT = 1, 4
LONGEST = USER_TIMEOUT + 8.0
"""Seconds within which the proxy has to notice, on a busy machine."""

SCENARIOS = ("silent-client", "client-of-a-stream", "upstream")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def vanish() -> None:
    ip("addr", "del", f"{ELSEWHERE}/32", "dev", "lo")
    ip("route", "add", "blackhole", ELSEWHERE)


class Model:
    """Begins a stream, continues it or not, and notes when it is aborted."""

    def __init__(self, *, talks: bool) -> None:
        self.begun = threading.Event()
        self.given_up = threading.Event()
        self._talks = talks

    def __call__(self, peer: Peer) -> None:
        if (received := peer.read_request()) is None or not received.body:
            return
        peer.send(SSE_HEAD + chunk(events("chatcmpl-gone", "a")[0]))
        self.begun.set()
        if not self._talks:
            peer.wait_closed()
        else:
            with suppress(ConnectionError):
                while True:
                    peer.send(chunk(b": still there\n\n"))
                    time.sleep(0.2)
        self.given_up.set()


def client_elsewhere(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(ELSEWHERE, 0))


def a_client_vanishes(program: str, *, talks: bool) -> None:
    model = Model(talks=talks)
    settings = {"TCP_KEEPALIVE_IDLE_SECS": str(IDLE), "TCP_USER_TIMEOUT_SECS": str(USER_TIMEOUT)}
    with ScriptedUpstream(model) as upstream, running_proxy(upstream.url, program=program, **settings) as proxy:
        client = client_elsewhere(proxy.port)
        client.sendall(chat_request(chat_body(stream=True), TOKEN))
        assert model.begun.wait(10)
        began = time.monotonic()
        vanish()
        assert model.given_up.wait(LONGEST), "the model still works for a client that is gone"
        assert time.monotonic() - began > IDLE, "something else has ended it"
        client.close()


def an_upstream_vanishes(program: str) -> None:
    settings = {"TCP_KEEPALIVE_IDLE_SECS": str(IDLE), "TCP_USER_TIMEOUT_SECS": str(USER_TIMEOUT)}
    with socket.create_server((ELSEWHERE, 0)) as listener:
        url = f"http://{ELSEWHERE}:{listener.getsockname()[1]}"
        with running_proxy(url, program=program, **settings) as proxy, RawClient(proxy.port) as client:
            client.send(chat_request(chat_body()))
            upstream, _ = listener.accept()
            while b"messages" not in upstream.recv(65536):
                pass
            began = time.monotonic()
            vanish()
            client.sock.settimeout(LONGEST)
            status, _, _ = client.read_response()
            assert status == 502, status
            assert time.monotonic() - began > IDLE, "something else has ended it"


def main() -> None:
    scenario, program = sys.argv[1:]
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{ELSEWHERE}/32", "dev", "lo")
    if scenario == "upstream":
        an_upstream_vanishes(program)
    else:
        a_client_vanishes(program, talks=scenario == "client-of-a-stream")


if __name__ == "__main__":
    main()
