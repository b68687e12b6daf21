#!/usr/bin/env python3
"""A stand-in for vLLM's OpenAI server: the same shapes, no model, no GPU, nothing but the standard library.

It answers a chat with an echo of the last message, word by word. Good for trying the proxy out, for tests and for load.
"""

import abc
import argparse
import contextlib
import itertools
import json
import sys
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JsonObject = dict[str, Any]


class BadRequestError(Exception):
    """A request that vLLM would refuse, with the status and error type that it would give."""

    def __init__(self, message: str, status: int = 400, error_type: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


class StandIn(ThreadingHTTPServer):
    """The server.

    Attributes:
        model: Name of the one model that is served.
        delay: Seconds between two tokens of a stream.
        tokens: How many tokens an answer has; None for as many as the message has words.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], model: str, delay: float = 0, tokens: int | None = None) -> None:
        super().__init__(address, Handler)
        self.model = model
        self.delay = delay
        self.tokens = tokens

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of a JSON answer leave together

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        """Answer the pages that take no body."""
        path = self.path.partition("?")[0]
        if path == "/health":
            self._send(200, b"", "text/plain")
        elif path == "/version":
            self._send_json(200, {"version": "0.0.0-stand-in"})
        elif path == "/metrics":
            self._send(200, b"# HELP vllm:num_requests_running Requests running.\n", "text/plain; version=0.0.4")
        elif path == "/v1/models":
            model = {"id": self.server.model, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
            model |= {"root": self.server.model, "parent": None, "max_model_len": 32768, "permission": []}
            self._send_json(200, {"object": "list", "data": [model]})
        else:
            self._send_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        """Answer a chat or a completion."""
        body = self._read_body()
        try:
            if self.path == "/v1/chat/completions":
                self._complete(Chat(self.server, _parsed(body), self.headers.get("X-Request-Id")))
            elif self.path == "/v1/completions":
                self._complete(Completion(self.server, _parsed(body), self.headers.get("X-Request-Id")))
            else:
                self._send_json(404, {"detail": "Not Found"})
        except BadRequestError as error:
            message = {"message": str(error), "type": error.error_type, "param": None, "code": error.status}
            self._send_json(error.status, {"error": message})

    def _complete(self, answer: "Answer") -> None:
        if not answer.request.get("stream"):
            time.sleep(self.server.delay)
            self._send_json(200, answer.whole())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(answer.events()):
            if number:
                time.sleep(self.server.delay)
            self._send_chunk(b"data: %s\n\n" % _dumped(event))
        self._send_chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send_json(self, status: int, answer: JsonObject) -> None:
        self._send(status, _dumped(answer), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Answer(abc.ABC):
    """What the model says, and the objects it is wrapped in."""

    id_prefix: str
    object: str
    chunk_object: str

    def __init__(self, server: StandIn, request: JsonObject, request_id: str | None) -> None:
        if request.get("model") != server.model:
            raise BadRequestError(f"The model `{request.get('model')}` does not exist.", 404, "NotFoundError")
        self.request = request
        prompt = self.prompt()
        words = prompt.split() or ["…"]
        count = server.tokens if server.tokens is not None else len(words)
        count = min(count, request.get("max_completion_tokens") or request.get("max_tokens") or count)
        self.tokens = [
            f" {word}" if at else word for at, word in enumerate(itertools.islice(itertools.cycle(words), count))
        ]
        self.usage = {
            "prompt_tokens": len(words),
            "total_tokens": len(words) + count,
            "completion_tokens": count,
        }
        self.head: JsonObject = {
            # vLLM lets the client choose its id.
            "id": f"{self.id_prefix}-{request_id or uuid.uuid4().hex}",
            "object": self.object,
            "created": int(time.time()),
            "model": server.model,
        }

    @abc.abstractmethod
    def prompt(self) -> str:
        """The text to answer."""

    @abc.abstractmethod
    def choice(self, text: str) -> JsonObject:
        """The whole answer's choice."""

    @abc.abstractmethod
    def delta(self, token: str) -> JsonObject:
        """A token's part of a choice."""

    def whole(self) -> JsonObject:
        """The answer as one object."""
        choice = {"index": 0, **self.choice("".join(self.tokens)), "logprobs": None, "finish_reason": "stop"}
        answer = self.head | {"choices": [choice | {"stop_reason": None}], "service_tier": None}
        return answer | {"system_fingerprint": None, "usage": self.usage | {"prompt_tokens_details": None}}

    def events(self) -> Iterator[JsonObject]:
        """The answer as the events of a stream, without the last, which is no JSON."""
        head = self.head | {"object": self.chunk_object}
        for token in self.tokens:
            yield head | {"choices": [{"index": 0, **self.delta(token), "logprobs": None, "finish_reason": None}]}
        last = {"index": 0, **self.delta(""), "logprobs": None, "finish_reason": "stop", "stop_reason": None}
        yield head | {"choices": [last]}
        if (self.request.get("stream_options") or {}).get("include_usage"):
            yield head | {"choices": [], "usage": self.usage}


class Chat(Answer):
    """An answer of `/v1/chat/completions`."""

    id_prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def prompt(self) -> str:
        messages = self.request.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise BadRequestError("messages: a list of one or more objects is required")
        if any(message.get("tool_calls") == [] for message in messages):
            raise BadRequestError("tool_calls: an empty list is not allowed")  # the defect that the proxy works around
        content = messages[-1].get("content") or ""
        if isinstance(content, list):
            content = " ".join(part.get("text", "") for part in content)
        return str(content)

    def choice(self, text: str) -> JsonObject:
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
        return {"message": message | {"function_call": None, "tool_calls": [], "reasoning_content": None}}

    def delta(self, token: str) -> JsonObject:
        return {"delta": {"content": token}}

    def events(self) -> Iterator[JsonObject]:
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield self.head | {"object": self.chunk_object, "choices": [first]}
        yield from super().events()


class Completion(Answer):
    """An answer of `/v1/completions`."""

    id_prefix = "cmpl"
    object = "text_completion"
    chunk_object = "text_completion"

    def prompt(self) -> str:
        prompt = self.request.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequestError("prompt: a string is required")
        return prompt

    def choice(self, text: str) -> JsonObject:
        return {"text": text}

    def delta(self, token: str) -> JsonObject:
        return {"text": token}


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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog="Ctrl-C stops it.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen at; 0 takes a free one (%(default)s)")
    parser.add_argument("--model", default="stand-in", help="name of the served model (%(default)s)")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds between two tokens (%(default)s)")
    parser.add_argument("--tokens", type=int, help="tokens in an answer (as many as the message has words)")
    options = parser.parse_args()
    try:
        server = StandIn((options.host, options.port), options.model, options.delay, options.tokens)
    except OSError as error:
        sys.exit(f"stand_in_vllm: cannot listen at {options.host}:{options.port}: {error.strerror}")
    print(f"http://{options.host}:{server.server_address[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
