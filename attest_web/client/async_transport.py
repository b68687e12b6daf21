"""The transport of `AsyncOpenAI`: `sync_transport` with `await`, by anyio, so for asyncio and trio alike."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import anyio
import anyio.to_thread
import httpx2

from attest_web.client.errors import UnprovenError
from attest_web.client.proof import Proof
from attest_web.client.signing import signatures
from attest_web.client.steps import Get, Step, Steps, T, Wait
from attest_web.client.stream_gate import StreamGate, check_length
from attest_web.client.tls_guard import TlsGuard, UnknownTlsKeyError, server_key
from attest_web.client.transport import (
    EXTENSION,
    MAX_PROOF_ANSWER,
    Asked,
    Rules,
    Verdict,
    another_key,
    exchange_of,
    id_in,
    ids_of,
    may_come_in_parts,
    may_go_unproven,
    proof_request,
    refusal,
    refuse_encoding,
    whole_proof,
)
from attest_web.client.trust import Pin, RefusedError
from attest_web.verify.client import Answer, FetchError


class AsyncVerifyingTransport(httpx2.AsyncBaseTransport):
    """Sends requests by another transport, and gives no answer that is not proven."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, rules: Rules) -> None:
        self._inner = inner
        self._rules = rules
        self._attesting = anyio.Lock()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`.

        Raises:
            ProofError: The answer is not proven.
        """
        await request.aread()
        asked = Asked.of(request, self._rules)
        refused = await self._settle(asked)
        if refused is not None:
            return refused
        response = await self._send(request, asked)
        try:
            return await self._checked(asked, response)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _settle(self, asked: Asked) -> httpx2.Response | None:
        """Have keys attested before the first request is sent; return an answer where that was refused."""
        trust = self._rules.trust
        if trust.settled or (asked.path in self._rules.allow_unproven and not self._rules.tls):
            return None
        try:
            async with self._attesting:
                if not trust.settled:
                    await self._run(trust.pin(None, None, asked.model), asked)
        except RefusedError as error:
            return refusal(error)
        return None

    async def _send(self, request: httpx2.Request, asked: Asked) -> httpx2.Response:
        """Send a request over a connection to an attested key; one to a new key waits until that is attested, too."""
        for _ in range(2):
            try:
                return await self._send_guarded(request, self._rules.guard(request))
            except UnknownTlsKeyError as unknown:
                async with self._attesting:
                    if unknown.key not in self._rules.trust.tls_keys:
                        await self._run(self._rules.trust.pin(None, unknown.key, asked.model), asked)
        raise another_key()

    async def _send_guarded(self, request: httpx2.Request, guard: TlsGuard | None) -> httpx2.Response:
        if guard is not None:
            request.extensions = {**request.extensions, "trace": guard.atrace}
        return await self._inner.handle_async_request(request)

    async def _checked(self, asked: Asked, response: httpx2.Response) -> httpx2.Response:
        verdict = Verdict(self._rules.on_proof)
        response.extensions[EXTENSION] = verdict
        if may_go_unproven(response, asked, self._rules):
            return response
        refuse_encoding(response)
        tls_key = server_key(response) if self._rules.tls else None
        inner = cast("httpx2.AsyncByteStream", response.stream)

        async def settle(answer: bytes, own_id: str | None) -> None:
            verdict.settle(await self._prove(asked, answer, ids_of(response, own_id), tls_key))

        if may_come_in_parts(response, asked):
            gate = StreamGate(self._rules.max_bytes)
            response.stream = _ProvenStream(inner, gate, lambda: settle(gate.content, gate.id))
            return response
        answer = bytearray()
        async for piece in inner:
            answer += piece
            check_length(answer, self._rules.max_bytes)
        await inner.aclose()
        await settle(bytes(answer), id_in(bytes(answer)))
        response.stream = httpx2.ByteStream(bytes(answer))
        return response

    async def _prove(self, asked: Asked, answer: bytes, ids: Sequence[str], tls_key: bytes | None) -> Proof:
        trust = self._rules.trust
        signed = await self._run(signatures(exchange_of(asked, answer), ids, self._rules.algos, asked.model), asked)
        pin: Pin | None = trust.find(signed.signers, tls_key)
        if pin is None:
            async with self._attesting:
                pin = trust.find(signed.signers, tls_key)
                if pin is None:
                    pin = await self._run(trust.pin(signed.signers, tls_key, asked.model), asked)
        return whole_proof(signed, pin)

    async def _run(self, steps: Steps[T], asked: Asked) -> T:
        came: Any = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                return cast("T", end.value)
            came = await self._take(step, asked)

    async def _take(self, step: Step, asked: Asked) -> Any:
        if isinstance(step, Get):
            return await self._get(step, asked)
        if isinstance(step, Wait):
            await anyio.sleep(step.seconds)
            return None
        return await anyio.to_thread.run_sync(step.call, abandon_on_cancel=True)

    async def _get(self, step: Get, asked: Asked) -> Answer | FetchError:
        deadline = time.monotonic() + self._rules.proof_timeout
        try:
            request = proof_request(step, asked, self._rules)
            if step.about_keys:
                response = await self._send_guarded(request, self._rules.guard(request, about_keys=True))
            else:
                response = await self._send(request, asked)
            try:
                key = server_key(response) if self._rules.tls else None
                body = bytearray()
                async for piece in cast("httpx2.AsyncByteStream", response.stream):
                    body += piece
                    if len(body) > MAX_PROOF_ANSWER or time.monotonic() > deadline:
                        return FetchError("its answer is too long, or took too long")
            finally:
                await response.aclose()
        except (httpx2.TransportError, OSError) as error:
            return FetchError(f"{type(error).__name__}: {error}")
        except UnprovenError as error:
            return FetchError(str(error))
        return Answer(response.status_code, dict(response.headers), bytes(body), key)


class _ProvenStream(httpx2.AsyncByteStream):
    """An event stream whose end comes out when all of it is proven."""

    def __init__(self, inner: httpx2.AsyncByteStream, gate: StreamGate, prove: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._gate = gate
        self._prove = prove

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            if passing := self._gate.feed(piece):
                yield passing
        await self._inner.aclose()
        await self._prove()
        if held := self._gate.end():
            yield held

    async def aclose(self) -> None:
        await self._inner.aclose()
