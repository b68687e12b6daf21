#!/usr/bin/env python3
"""A stand-in for vLLM's server: the same endpoints and shapes, no model, no GPU, nothing but the standard library.

It answers a chat with an echo of the last message, word by word, and whatever else with something as simple. Good for
trying the proxy out, for tests and for load. Request headers make it do more:

- `X-Stand-In-Bytes: N`: an image or a piece of speech of so many bytes.
- `X-Stand-In-Cut: N`: a stream that breaks off behind so many events.
- `X-Stand-In-Error: flat|nested|detail`: a refusal that quotes the request, in one of vLLM's shapes.
"""

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # any Python may run it, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.fake_vllm.answers import OBJECTS, edited_images, model_card, models
from scripts.fake_vllm.errors import BadRequestError, JsonObject, error_on_demand, refusal
from scripts.fake_vllm.form import Form, read_form
from scripts.fake_vllm.streams import ANSWERS, Answer
from scripts.fake_vllm.transcription import Transcription

PIECE = 64 * 1024
"""Largest read or write, in bytes."""

_FORMS = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits")
_FILLER = b"A" * PIECE


class FakeVllm(ThreadingHTTPServer):
    """The server.

    Attributes:
        model: Name of the served model.
        delay: Seconds between two tokens of a stream.
        tokens: Number of tokens in a response; None for as many as the message has words.
        keep_alive: Seconds after which an idle connection is closed; vLLM's are 5.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self,
        address: tuple[str, int],
        model: str,
        delay: float = 0,
        tokens: int | None = None,
        keep_alive: float = 5,
    ) -> None:
        super().__init__(address, Handler)
        self.model = model
        self.delay = delay
        self.tokens = tokens
        self.keep_alive = keep_alive

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log clients that have disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    server: FakeVllm
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of a JSON response are sent together

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        self.connection.settimeout(self.server.keep_alive)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.connection.settimeout(None)
        return super().parse_request()

    def do_GET(self) -> None:
        """Serve the pages that take no body."""
        path = self.path.partition("?")[0]
        if path == "/health":
            self._send(200, b"", "text/plain")
        elif path == "/version":
            self._send_json(200, {"version": "0.0.0-stand-in"})
        elif path == "/metrics":
            self._send(200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/v1/models":
            self._send_json(200, models(self.server.model))
        elif path == f"/v1/models/{self.server.model}":
            self._send_json(200, model_card(self.server.model))
        else:
            self._send_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        """Serve the endpoints of a model."""
        path = self.path.partition("?")[0]
        pieces = self._body()
        try:
            if path in _FORMS:
                self._answer_form(path, read_form(self.headers.get("Content-Type", ""), pieces))
            elif path in ANSWERS or path in OBJECTS or path == "/v1/audio/speech":
                self._answer(path, _parsed(b"".join(pieces)))
            else:
                self._send_json(404, {"detail": "Not Found"})
        except BadRequestError as error:
            self._send_json(error.status, refusal(error, path))
        finally:
            for _ in pieces:  # read the rest, as the connection may be reused
                pass

    def _answer(self, path: str, request: JsonObject) -> None:
        if self._failed_on_demand(request):
            return
        self._check_model(request)
        if path in ANSWERS:
            given_id = self.headers.get("X-Request-Id")
            answer = ANSWERS[path](self.server.model, self.server.tokens, request, given_id)
            if request.get("stream"):
                self._stream(answer)
            else:
                time.sleep(self.server.delay)
                self._send_json(200, answer.whole())
        elif path == "/v1/audio/speech":
            size = self._size_on_demand() or 1024
            self._send_pieces("application/octet-stream" if size > 1024 else "audio/mpeg", size, _filler(size))
        elif path == "/v1/images/generations" and (size := self._size_on_demand()):
            before, _, after = _dumped({"created": int(time.time()), "data": [{"b64_json": "?"}]}).partition(b"?")
            pieces = itertools.chain([before], _filler(size), [after])
            self._send_pieces("application/json", len(before) + size + len(after), pieces)
        else:
            self._send_json(200, OBJECTS[path](request))

    def _answer_form(self, path: str, form: Form) -> None:
        if self._failed_on_demand(dict(form.fields)):
            return
        self._check_model(form.fields)
        if path == "/v1/images/edits":
            self._send_json(200, edited_images(form))
            return
        answer = Transcription(self.server.model, form)
        if form.fields.get("stream", "").lower() == "true":
            self._stream(answer)
        elif form.fields.get("response_format") == "text":
            self._send(200, answer.text.encode(), "text/plain; charset=utf-8")
        else:
            self._send_json(200, answer.whole())

    def _check_model(self, request: JsonObject | dict[str, str]) -> None:
        # vLLM accepts a request without a model.
        if request.setdefault("model", self.server.model) != self.server.model:
            raise BadRequestError(f"The model `{request['model']}` does not exist.", 404, "NotFoundError")

    def _failed_on_demand(self, request: JsonObject) -> bool:
        shape = self.headers.get("X-Stand-In-Error")
        if shape is None:
            return False
        self._send_json(*error_on_demand(shape, request))
        return True

    def _size_on_demand(self) -> int:
        return int(self.headers.get("X-Stand-In-Bytes", 0))

    def _metrics(self) -> bytes:
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f'vllm:num_requests_running{{engine="0",model_name="{self.server.model}"}} 0.0',
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cut = int(self.headers.get("X-Stand-In-Cut", -1))
        for number, event in enumerate(answer.events()):
            if number == cut:
                raise ConnectionAbortedError
            if number:
                time.sleep(self.server.delay)
            name = b"event: %s\n" % event["type"].encode() if answer.names_events else b""
            self._send_chunk(b"%sdata: %s\n\n" % (name, _dumped(event)))
        if answer.ends_with_done:
            self._send_chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield from self._read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read1(min(size, PIECE))
            if not piece:
                raise ConnectionResetError
            size -= len(piece)
            yield piece

    def _send_json(self, status: int, answer: JsonObject) -> None:
        self._send(status, _dumped(answer), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self._send_pieces(content_type, len(body), [body], status)

    def _send_pieces(self, content_type: str, size: int, pieces: Iterable[bytes], status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
        self.wfile.flush()


def _filler(size: int) -> Iterator[bytes]:
    for _ in range(size // PIECE):
        yield _FILLER
    yield _FILLER[: size % PIECE]


def _parsed(body: bytes) -> JsonObject:
    try:
        request = json.loads(body)
    except ValueError:
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(request, dict):
        raise BadRequestError("the body is not a JSON object")
    return request


def _dumped(value: JsonObject) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def main() -> None:
    """Serve until stopped; say where on the first line of standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Ctrl-C stops it."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen at; 0 takes a free one (%(default)s)")
    parser.add_argument("--model", default="stand-in", help="name of the served model (%(default)s)")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds between two tokens (%(default)s)")
    parser.add_argument("--tokens", type=int, help="tokens in an answer (as many as the message has words)")
    keep_alive = "seconds after which an idle connection is closed (%(default)s)"
    parser.add_argument("--keep-alive", type=float, default=5, help=keep_alive)
    options = parser.parse_args()
    try:
        address = options.host, options.port
        server = FakeVllm(address, options.model, options.delay, options.tokens, options.keep_alive)
    except (OSError, OverflowError) as error:  # the latter where there is no such port
        sys.exit(f"stand_in_vllm: cannot listen at {options.host}:{options.port}: {getattr(error, 'strerror', error)}")
    print(f"http://{options.host}:{server.server_address[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
