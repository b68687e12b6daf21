"""The real dstack-sdk against an agent that answers as a test tells it to."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from attest_web.dstack import Dstack, DstackError

SECRET = "5ec2e7" + "00" * 29
Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


@contextmanager
def agent(path: Path, answer: Answer) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """An agent; gives what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            status, content = answer(self.path, body)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def answering(status: int, content: Any) -> Answer:
    return lambda path, body: (status, content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dstack.sock"


def test_keys_come_from_the_contracts_paths(path: Path, vectors: dict[str, str]) -> None:
    secrets = {"org/m/ecdsa-signing-key": "ecdsa_secret", "org/m/ed25519-signing-key": "ed25519_seed"}
    answer: Answer = lambda _, body: (200, {"key": vectors[secrets[body["path"]]], "signature_chain": []})  # noqa: E731
    with agent(path, answer) as asked:
        keys = Dstack(str(path)).signing_keys("org/m")
    assert keys.ecdsa_address == vectors["ecdsa_address"]
    assert keys.ed25519_address == vectors["ed25519_public_key"]
    assert {(name, body["path"], body["purpose"]) for name, body in asked} == {
        ("/GetKey", key_path, "signing") for key_path in secrets
    }


def test_quotes_and_information_come_as_dstack_gives_them(path: Path) -> None:
    tcb_info = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_aggregated", "os_image_hash"), "00")
    tcb_info |= {"compose_hash": "00", "device_id": "00", "app_compose": "{}", "event_log": []}  # type: ignore[dict-item]
    info = {name: name for name in ("app_id", "instance_id", "app_cert", "app_name", "device_id", "key_provider_info")}
    info |= {"compose_hash": "00", "tcb_info": json.dumps(tcb_info)}
    log = [{"imr": 3, "event_type": 1, "digest": "00", "event": "x", "event_payload": ""}]

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"quote": "abcd", "event_log": json.dumps(log)} if path == "/GetQuote" else info

    with agent(path, answer) as asked:
        quote = Dstack(str(path)).quote(b"r" * 64)
        shown = Dstack(str(path)).info()
    assert (quote.quote, quote.event_log) == ("abcd", log)
    assert asked[0] == ("/GetQuote", {"report_data": (b"r" * 64).hex()})
    assert shown["tcb_info"]["app_compose"] == "{}"
    assert shown["app_id"] == "app_id"


def test_a_socket_that_is_not_there_is_told_so(path: Path) -> None:
    with pytest.raises(DstackError, match="its socket is not there"):
        Dstack(str(path)).signing_keys("m")


def test_a_socket_that_nobody_listens_at_is_told_so(path: Path) -> None:
    with agent(path, answering(200, {})):
        pass
    with pytest.raises(DstackError, match="cannot be talked to"):
        Dstack(str(path)).quote(b"r" * 64)


def test_an_agent_that_takes_too_long_is_given_up(path: Path) -> None:
    go_on = threading.Event()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        go_on.wait(10)
        return 200, {}

    with agent(path, answer):
        with pytest.raises(DstackError, match=r"within 0\.2 seconds"):
            Dstack(str(path), timeout=0.2).quote(b"r" * 64)
        go_on.set()


@pytest.mark.parametrize(
    "answer",
    [
        answering(500, {"error": SECRET}),
        answering(200, b"not JSON " + SECRET.encode()),
        answering(200, {"key": SECRET[:-2], "signature_chain": []}),
        answering(200, {"key": "no hex " + SECRET, "signature_chain": []}),
        answering(200, {"key": 7, "signature_chain": []}),
        answering(200, [SECRET]),
        answering(200, {"key": "00" * 32, "signature_chain": []}),
    ],
    ids=["500", "no JSON", "31 bytes", "no hex", "a number", "a list", "no scalar"],
)
def test_what_is_no_key_is_an_error_in_one_line_that_does_not_quote_it(path: Path, answer: Answer) -> None:
    with agent(path, answer), pytest.raises(DstackError) as caught:
        Dstack(str(path)).signing_keys("m")
    assert "signing keys" in str(caught.value)
    assert SECRET[:6] not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "answer",
    [
        {"quote": "no hex", "event_log": "[]"},
        {"quote": "ab", "event_log": "{"},
        {"quote": "ab", "event_log": "{}"},
        {"event_log": "[]"},
        {},
    ],
)
def test_what_is_no_quote_is_an_error(path: Path, answer: Any) -> None:
    with agent(path, answering(200, answer)), pytest.raises(DstackError, match="could not be read"):
        Dstack(str(path)).quote(b"r" * 64)
