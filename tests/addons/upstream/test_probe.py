import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from addons.upstream.probe import UpstreamProbe
from tests.support.limits import limit


@contextmanager
def upstream(status: int) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "answers"), [(200, True), (404, True), (500, False), (503, False)])
def test_upstream_probe_status_below_500_counts_as_up(status: int, answers: bool) -> None:
    with upstream(status) as (url, asked):
        assert UpstreamProbe(url)() is answers
    assert asked == ["/health"]


def test_upstream_probe_refused_connection_counts_as_down() -> None:
    with upstream(200) as (url, _):
        pass
    assert UpstreamProbe(url)() is False


def test_upstream_probe_sends_at_most_one_request_per_second() -> None:
    now = 0.0
    with upstream(200) as (url, asked):
        probe = UpstreamProbe(url, clock=lambda: now)
        for _ in range(5):
            assert probe()
        assert len(asked) == 1
        now = 1.0
        assert probe()
        assert len(asked) == 2


def test_upstream_probe_concurrent_call_returns_the_last_result_at_once() -> None:
    now = 0.0
    asked, answer = threading.Event(), threading.Event()

    class Slow(UpstreamProbe):
        def _ask(self) -> bool:
            if now:
                asked.set()
                assert answer.wait(limit())
            return True

    probe = Slow("http://unused", clock=lambda: now)
    assert probe()
    now = 1.0
    waiting = threading.Thread(target=probe)
    waiting.start()
    assert asked.wait(limit())
    assert probe() is True  # at once
    answer.set()
    waiting.join()


def test_upstream_probe_ignores_a_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with upstream(200) as (url, _):
        assert UpstreamProbe(url)() is True
