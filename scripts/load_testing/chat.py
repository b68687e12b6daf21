"""A chat of `scripts/loadtest`: the request, the times of the response's tokens, and the check of its signatures."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from attest_web.response_ids import usable_id
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.primitives.checks import FailedError, Status
from attest_web.verify.signed_text import SignatureAnswer, SignedBodies, check_signature, shown_address
from scripts.load_testing.client import Answer, Connection, TransportError

_DATA = re.compile(rb"^data:[ ]?([^\r\n]*)\r?\n", re.MULTILINE)
_SAID = ("content", "reasoning", "reasoning_content", "tool_calls")


class ChatError(Exception):
    """There is no response that could be signed. The message is one of a few fixed kinds, for counting."""


class UntrueError(Exception):
    """A response's signature is missing or does not verify.

    Attributes:
        kind: The kind under which it is counted.
        detail: What was found, in one line. It may quote what the server sent.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Chat:
    """A completed chat, with times in seconds.

    Attributes:
        took: From the request to the response's last byte.
        tokens: From the request to each event with a token; empty if the response was not streamed.
        signatures_took: From the response's last byte until both signatures were received.
        addresses: The signers' addresses, by algorithm.
    """

    took: float
    tokens: tuple[float, ...]
    signatures_took: float
    addresses: dict[SigningAlgo, str]


@dataclass(frozen=True)
class Question:
    """The chat request, which is sent repeatedly."""

    model: str
    stream: bool
    max_tokens: int
    message: str

    def body(self) -> bytes:
        """The request's body."""
        asked: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": self.message}]}
        return json.dumps(asked | {"max_tokens": self.max_tokens, "stream": self.stream}).encode()


async def have_chat(question: Question, proxy: Connection, signatures: Connection) -> Chat:
    """Send one chat, fetch its signatures as soon as it is over, and check them.

    Args:
        question: The request.
        proxy: The connection for chats.
        signatures: The connection for signatures.

    Raises:
        ChatError: There is no response that could be signed.
        TransportError: There is no complete response, as the connection failed.
        UntrueError: A signature is missing, or is not over these bytes.
    """
    body = question.body()
    answer = await proxy.ask("POST", "/v1/chat/completions", body)
    if answer.status != 200:
        raise ChatError(f"status {answer.status}")
    if question.stream and not answer.body.rstrip().endswith(b"data: [DONE]"):
        raise ChatError("stream without [DONE]")  # which is not signed
    began = time.perf_counter()
    signature_id = answer.headers.get("x-receipt-id") or _id_of(answer.body)
    statements = [await _ask_for(signatures, signature_id, algo) for algo in SIGNING_ALGOS]
    signatures_took = time.perf_counter() - began
    tokens = _token_times(answer) if question.stream else ()
    bodies = SignedBodies(body, answer.body)
    addresses = {algo: _checked(algo, said, bodies) for algo, said in zip(SIGNING_ALGOS, statements, strict=True)}
    return Chat(answer.ended - answer.asked, tokens, signatures_took, addresses)


async def _ask_for(signatures: Connection, signature_id: str, algo: SigningAlgo) -> bytes:
    path = f"/v1/signature/{quote(signature_id, safe='')}?signing_algo={algo}"
    try:
        answer = await signatures.ask("GET", path)
    except TransportError as error:
        raise UntrueError(f"{algo} signature not found", str(error)) from None
    if answer.status != 200:
        raise UntrueError(f"{algo} signature not found", f"{signature_id}: status {answer.status}")
    return answer.body


def _checked(algo: SigningAlgo, said: bytes, bodies: SignedBodies) -> str:
    """The address of the signer."""
    try:
        signature = SignatureAnswer.parse(said)
    except FailedError as error:
        raise UntrueError(f"{algo} signature malformed", str(error)) from None
    if signature.algo != algo:
        raise UntrueError(f"{algo} signature malformed", f"it is by {signature.algo}")
    for check in check_signature(algo, signature, bodies):
        if check.status is not Status.PASSED:
            raise UntrueError(f"{check.name} untrue", check.detail)
    return shown_address(algo, signature.address)


def _token_times(answer: Answer) -> tuple[float, ...]:
    """Seconds until each event with a token."""
    events = _DATA.finditer(answer.body)
    return tuple(answer.when(event.end()) - answer.asked for event in events if _has_token(event[1]))


def _has_token(data: bytes) -> bool:
    # The first event of a chat has the role, the last events have the finish reason and the usage.
    try:
        return any(choice["delta"].get(name) for choice in json.loads(data)["choices"] for name in _SAID)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _id_of(body: bytes) -> str:
    """The response's id, for proxies that send no receipt id.

    Raises:
        ChatError: It has no id.
    """
    for source in [event[1] for event in _DATA.finditer(body)] or [body]:
        try:
            found = usable_id(json.loads(source)["id"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if found is not None:
            return found
    raise ChatError("answer without an id")
