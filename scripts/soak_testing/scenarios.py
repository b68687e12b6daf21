"""The scenarios of the soak test: correct use of the API, and errors."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from scripts.soak_testing.client import MODEL, Answer, Client, UnexpectedError, request

Scenario = Callable[[Client], Awaitable[None]]

_WORDS = "the quick brown fox jumps over the lazy dog and then some more of it comes along until it ends"
_UPLOAD = 200_000
_LARGE = 2_000_000


def _dumped(value: dict[str, Any]) -> bytes:
    return json.dumps({"model": MODEL} | value).encode()


def _chat(*, stream: bool) -> bytes:
    return _dumped({"messages": [{"role": "user", "content": _WORDS}], "stream": stream})


def _form(size: int, **fields: str) -> tuple[str, bytes]:
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = "".join([*parts, head]).encode() + b"a" * size + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


async def _signed(client: Client, path: str, body: bytes, **headers: str) -> Answer:
    answer = await client.ask(request("POST", path, body, **headers))
    if client.random.random() < 0.3:
        await client.check_signature(body, answer)
    return answer


async def _streamed(client: Client, path: str, body: bytes, end: bytes) -> None:
    answer = await _signed(client, path, body)
    if not any(end in event for event in answer.body.split(b"\n\n")[-3:]):
        raise UnexpectedError(f"the stream ends without {end!r}")


async def chat(client: Client) -> None:
    """A JSON chat."""
    await _signed(client, "/v1/chat/completions", _chat(stream=False))


async def streamed_chat(client: Client) -> None:
    """An SSE chat."""
    await _streamed(client, "/v1/chat/completions", _chat(stream=True), b"[DONE]")


async def streamed_response(client: Client) -> None:
    """An SSE stream of the Responses API."""
    await _streamed(client, "/v1/responses", _dumped({"input": _WORDS, "stream": True}), b'"response.completed"')


async def streamed_message(client: Client) -> None:
    """An SSE stream of the Messages API."""
    asked = {"messages": [{"role": "user", "content": _WORDS}], "max_tokens": 100, "stream": True}
    await _streamed(client, "/v1/messages", _dumped(asked), b"message_stop")


async def embedding(client: Client) -> None:
    """Embeddings."""
    await _signed(client, "/v1/embeddings", _dumped({"input": [_WORDS] * 3}))


async def rerank(client: Client) -> None:
    """A ranking."""
    await _signed(client, "/v1/rerank", _dumped({"query": "fox", "documents": _WORDS.split()}))


async def moderation(client: Client) -> None:
    """An endpoint without a route of its own."""
    await _signed(client, "/v1/moderations", _dumped({"input": _WORDS}))


async def transcription(client: Client) -> None:
    """An upload."""
    content_type, body = _form(_UPLOAD, model=MODEL, stream=client.random.choice(("true", "false")))
    await _signed(client, "/v1/audio/transcriptions", body, Content_Type=content_type)


async def speech(client: Client) -> None:
    """A large response that is not signed."""
    data = request("POST", "/v1/audio/speech", _dumped({"input": "x"}), X_Stand_In_Bytes=str(_LARGE))
    if len((await client.ask(data)).body) != _LARGE:
        raise UnexpectedError("not all of it came")


async def pages(client: Client) -> None:
    """Pages that need no token, two of them pipelined."""
    await client.send(request("GET", "/v1/models", token=None) + request("GET", "/health", token=None))
    for _ in range(2):
        if (await client.read_answer()).status != 200:
            raise UnexpectedError("a page that is open to all is not")


async def unknown_signature(client: Client) -> None:
    """A signature that does not exist."""
    await client.ask(request("GET", f"/v1/signature/{uuid.uuid4().hex}"), 404)


async def unknown_path(client: Client) -> None:
    """A path that is unknown upstream."""
    await client.ask(request("POST", "/v1/nowhere", _dumped({})), 404)


async def no_token(client: Client) -> None:
    """A chat without a token."""
    await client.ask(request("POST", "/v1/chat/completions", _chat(stream=False), token=None), 401)
    await client.close()


async def too_large(client: Client) -> None:
    """A chat whose Content-Length is too large, without a body."""
    await client.ask(request("POST", "/v1/chat/completions", Content_Length="99999999"), 413)
    await client.close()


async def too_large_in_the_end(client: Client) -> None:
    """A chunked chat that exceeds the body limit."""
    await client.send(
        request("POST", "/v1/chat/completions").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    )
    _, writer = await client.open()
    for _ in range(170):  # of 64 KiB: a little more than 10 MiB
        writer.write(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
        await writer.drain()
    if (await client.read_head())[0] != 413:
        raise UnexpectedError("a body without end is no 413")
    await client.reset()


async def bad_json(client: Client) -> None:
    """A chat that is not JSON."""
    await client.ask(request("POST", "/v1/chat/completions", b"{"), 400)
    await client.close()


async def bad_http(client: Client) -> None:
    """Bytes that are not HTTP."""
    await client.close()
    await client.ask(b"NONSENSE\r\n\r\n", 400)
    await client.close()


async def refused(client: Client) -> None:
    """A chat that the upstream rejects."""
    data = request("POST", "/v1/chat/completions", _chat(stream=False), X_Stand_In_Error="nested")
    await client.ask(data, 400)


async def upstream_breaks_off(client: Client) -> None:
    """A stream that the upstream does not finish."""
    await client.send(request("POST", "/v1/chat/completions", _chat(stream=True), X_Stand_In_Cut="5"))
    try:
        await client.read_answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        await client.close()
    else:
        raise UnexpectedError("a stream that was cut short looks whole")


async def leaves_in_head(client: Client) -> None:
    """A client that disconnects in the middle of its request's head."""
    await client.send(request("POST", "/v1/chat/completions")[:40])
    await client.close()


async def leaves_in_body(client: Client) -> None:
    """A client that resets the connection in the middle of its request's body."""
    await client.send(request("POST", "/v1/chat/completions", _chat(stream=True))[:-20])
    await client.reset()


async def leaves_in_upload(client: Client) -> None:
    """A client that resets the connection in the middle of an upload."""
    content_type, body = _form(_UPLOAD)
    await client.send(request("POST", "/v1/audio/transcriptions", body, Content_Type=content_type)[: _UPLOAD // 2])
    await client.reset()


async def leaves_before_answer(client: Client) -> None:
    """A client that disconnects after its request."""
    await client.send(request("POST", "/v1/chat/completions", _chat(stream=client.random.random() < 0.5)))
    await client.close()


async def leaves_in_answer(client: Client) -> None:
    """A client that resets the connection after the start of the response."""
    await client.send(request("POST", "/v1/chat/completions", _chat(stream=True)))
    await client.read_head()
    await client.read_piece()
    await client.reset()


async def leaves_in_large_answer(client: Client) -> None:
    """A client that resets the connection during a large response."""
    await client.send(request("POST", "/v1/audio/speech", _dumped({}), X_Stand_In_Bytes=str(10 * _LARGE)))
    await client.read_head()
    await client.reset()


async def slow_writer(client: Client) -> None:
    """A client that sends its request slowly, in small pieces."""
    body = _chat(stream=False)
    data = request("POST", "/v1/chat/completions", body)
    for at in range(0, len(data), 100):
        await client.send(data[at : at + 100])
        await asyncio.sleep(0.02)
    await client.check_signature(body, await client.read_answer())


async def slow_reader(client: Client) -> None:
    """A client that reads its response slowly."""
    await client.send(request("POST", "/v1/audio/speech", _dumped({}), X_Stand_In_Bytes=str(_LARGE)))
    await client.read_head()
    reader, _ = await client.open()
    left = _LARGE
    while left:
        left -= len(await reader.readexactly(min(left, _LARGE // 5)))
        await asyncio.sleep(0.05)


SCENARIOS: dict[Scenario, float] = {
    chat: 30,
    streamed_chat: 20,
    streamed_response: 5,
    streamed_message: 5,
    embedding: 6,
    rerank: 2,
    moderation: 2,
    transcription: 4,
    speech: 1,
    pages: 3,
    unknown_signature: 3,
    unknown_path: 2,
    no_token: 3,
    too_large: 2,
    too_large_in_the_end: 0.2,
    bad_json: 2,
    bad_http: 1,
    refused: 2,
    upstream_breaks_off: 2,
    leaves_in_head: 1,
    leaves_in_body: 2,
    leaves_in_upload: 1,
    leaves_before_answer: 2,
    leaves_in_answer: 2,
    leaves_in_large_answer: 1,
    slow_writer: 1,
    slow_reader: 1,
}
"""Relative frequency of each scenario."""
