"""A signing server without a network: behind a mock transport, it answers, signs and attests as it is told to."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import httpx2

from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, SigningAlgo, sign_text, signed_text
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from tests.attest_web.verify.minting import KEYS, OTHER_KEYS, report

BASE = "http://server.test/v1"
WHOLE = b'{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",\
"message":{"role":"assistant","content":"hello"}}]}'
STREAM = b"".join(
    b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n' % piece
    for piece in ((b"hel", b"null"), (b"lo", b"null"), (b"", b'"stop"'))
)
STREAM += b"data: [DONE]\n\n"
CHAT: Any = {"model": "org/m:1", "messages": [{"role": "user", "content": "say hello"}]}

LENIENT = Policy(verify_quote=lambda _quote: QuoteVerdict("UpToDate"), gpu=GpuDemand.UNVERIFIED)
"""Lets the quotes pass that `minting` makes, which nobody has signed."""


@dataclass
class SigningServer:
    """The server.

    Attributes:
        keys: What it signs with.
        model: What it puts in front of the hashes.
        receipt: Whether it gives receipts.
        late: How often a signature is asked for in vain.
        gathered: Whether reports come as NEAR AI's gateway gathers them.
        algos: What it can sign with.
        body: What it answers a chat with, instead of `WHOLE` or `STREAM`.
        head: Headers of that answer.
        replaced: What it answers by beginning of a path, instead.
        private: Whether it shows its reports to holders of a token alone.
    """

    keys: SigningKeys = field(default_factory=lambda: KEYS)
    model: str | None = None
    receipt: bool = True
    late: int = 0
    gathered: bool = False
    algos: tuple[SigningAlgo, ...] = ("ecdsa", "ed25519")
    body: bytes | None = None
    head: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, httpx2.Response] = field(default_factory=dict)
    private: bool = False
    asked: list[httpx2.Request] = field(default_factory=list)
    signed: dict[str, SignedExchange] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.asked]

    @property
    def sent_a_token(self) -> list[str]:
        """Paths of the requests that came with one."""
        return [request.url.path for request in self.asked if "authorization" in request.headers]

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        path = request.url.path.removeprefix("/v1")
        for beginning, answer in self.replaced.items():
            if path.startswith(beginning):
                return httpx2.Response(answer.status_code, headers=answer.headers, stream=Pieces(answer.content))
        if path.startswith("/signature/"):
            return self._signature(unquote(path.removeprefix("/signature/")), request.url.params)
        if path == "/attestation/report":
            if self.private and "authorization" not in request.headers:
                return httpx2.Response(401, json={"error": {"message": "no token"}})
            return httpx2.Response(200, json=self._report(request.url.params))
        return self._chat(request)

    def _chat(self, request: httpx2.Request) -> httpx2.Response:
        streamed = json.loads(request.content or b"{}").get("stream", False)
        body = self.body if self.body is not None else (STREAM if streamed else WHOLE)
        hashes = hashlib.sha256(request.content).hexdigest(), hashlib.sha256(body).hexdigest()
        signed = sign_text(self.keys, signed_text(*hashes, self.model))
        self.signed |= {"chatcmpl-1": signed, "rcpt-1": signed}
        headers = {"content-type": "text/event-stream; charset=utf-8" if streamed else "application/json"}
        headers |= {"x-receipt-id": "rcpt-1"} if self.receipt else {}
        return httpx2.Response(200, headers=headers | self.head, stream=Pieces(body))

    def _signature(self, stored_id: str, query: httpx2.QueryParams) -> httpx2.Response:
        if self.late:
            self.late -= 1
            return httpx2.Response(404, json={"error": {"message": "not yet"}})
        algo: Literal["ecdsa", "ed25519"] = "ed25519" if query["signing_algo"] == "ed25519" else "ecdsa"
        if algo not in self.algos or stored_id not in self.signed:
            return httpx2.Response(400, json={"error": {"message": "no such thing"}})
        signed = self.signed[stored_id]
        address = signed["signing_address_ecdsa"] if algo == "ecdsa" else signed["signing_address_ed25519"]
        signature = signed["signature_ecdsa"] if algo == "ecdsa" else signed["signature_ed25519"]
        answer = {"text": signed["text"], "signature": signature, "signing_address": address, "signing_algo": algo}
        return httpx2.Response(200, json=answer)

    def _report(self, query: httpx2.QueryParams) -> dict[str, Any]:
        algo: Literal["ecdsa", "ed25519"] = "ed25519" if query["signing_algo"] == "ed25519" else "ecdsa"
        nonce = bytes.fromhex(query["nonce"])
        ours = report(algo, keys=self.keys, nonce=nonce)
        if not self.gathered:
            return ours
        ours["event_log"] = json.dumps(ours["event_log"])
        reports = [report(algo, keys=OTHER_KEYS, nonce=nonce), ours]
        return {"gateway_attestation": {"signing_address": "0x" + "00" * 20}, "model_attestations": reports}


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body in pieces of a few bytes."""

    def __init__(self, body: bytes, size: int = 7) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]

    def __iter__(self) -> Any:
        yield from self._pieces

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece
