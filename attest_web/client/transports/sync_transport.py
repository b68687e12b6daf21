"""The transport of `OpenAI`."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import httpx2

from attest_web.client.proving.attempts import Attempts
from attest_web.client.proving.proof import Proof
from attest_web.client.proving.signing import signatures
from attest_web.client.proving.steps import Get, RunBlocking, StartDeadline, Steps, T, Wait
from attest_web.client.proving.trust import Pin, RefusedError, Signers
from attest_web.client.streaming.unverified_tail_buffer import UnverifiedTailBuffer, check_length
from attest_web.client.transports.deadline import Countdown, ThreadDeadline
from attest_web.client.transports.proof_requests import (
    MAX_PROOF_ANSWER,
    no_answer,
    proof_answer,
    proof_request,
    refusal,
    took_too_long,
)
from attest_web.client.transports.tls_guard import TlsGuard, UnknownTlsKeyError, server_key
from attest_web.client.transports.transport import (
    EXTENSION,
    PendingProof,
    PendingRequest,
    TransportConfig,
    another_key,
    bodies_of,
    id_in,
    ids_of,
    is_encoded,
    may_come_in_parts,
    may_go_unproven,
    refuse_compression,
    refuse_encoding,
    whole_proof,
    with_stream,
)
from attest_web.verify.primitives.http_client import Answer, FetchError


class VerifyingTransport(httpx2.BaseTransport):
    """Sends requests by another transport, and returns only proven responses."""

    def __init__(self, inner: httpx2.BaseTransport, config: TransportConfig) -> None:
        self._inner = inner
        self._config = config
        self._attempts = Attempts()
        self._attesting = threading.Lock()
        self._deadline = ThreadDeadline()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.BaseTransport`.

        Raises:
            ProofError: The response is not proven.
        """
        request.read()
        pending = PendingRequest.of(request, self._config)
        refused = self._settle(pending)
        if refused is not None:
            return refused
        guard = partial(self._config.guard, request.url)
        response = self._send(guard, partial(self._send_guarded, request), pending)
        try:
            return self._checked(pending, response)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _settle(self, pending: PendingRequest) -> httpx2.Response | None:
        """Attest keys before the first request is sent; return a response if the server rejected the report request."""
        trust = self._config.trust
        if trust.settled or self._config.may_go_unattested(pending.path):
            return None
        try:
            self._attest(None, None, pending)
        except RefusedError as error:
            return refusal(error)
        return None

    def _send(
        self, guard: Callable[[], TlsGuard | None], send: Callable[[TlsGuard | None], T], pending: PendingRequest
    ) -> T:
        """Send over a connection to an attested key; attest a new key first."""
        for _ in range(2):
            try:
                return send(guard())
            except UnknownTlsKeyError as unknown:
                self._attest(None, unknown.key, pending)
        raise another_key()

    def _send_guarded(self, request: httpx2.Request, guard: TlsGuard | None) -> httpx2.Response:
        def trace(event: str, info: dict[str, Any]) -> None:
            self._deadline.trace(event, info)
            if guard is not None:
                guard.trace(event, info)

        request.extensions = {**request.extensions, "trace": trace}
        return self._inner.handle_request(request)

    def _checked(self, pending: PendingRequest, response: httpx2.Response) -> httpx2.Response:
        pending_proof = PendingProof(self._config.on_proof)
        response.extensions[EXTENSION] = pending_proof
        inner = cast("httpx2.SyncByteStream", response.stream)
        if may_go_unproven(response, pending, self._config):
            if is_encoded(response) and response.status_code >= 300:
                inner.close()
                return with_stream(response, httpx2.ByteStream(b""))
            refuse_compression(response)
            return with_stream(response, _BoundedStream(inner, self._config.max_bytes))
        refuse_encoding(response)
        tls_key = server_key(response) if self._config.tls else None

        def settle(answer: bytes, own_id: str | None) -> None:
            pending_proof.settle(self._prove(pending, answer, ids_of(response, own_id), tls_key))

        if may_come_in_parts(response, pending):
            tail_buffer = UnverifiedTailBuffer(self._config.max_bytes)
            return with_stream(
                response, _ProvenStream(inner, tail_buffer, lambda: settle(tail_buffer.content, tail_buffer.id))
            )
        answer = bytearray()
        for piece in inner:
            check_length(len(answer) + len(piece), self._config.max_bytes)
            answer += piece
        inner.close()
        settle(bytes(answer), id_in(bytes(answer)))
        return with_stream(response, httpx2.ByteStream(bytes(answer)))

    def _prove(self, pending: PendingRequest, answer: bytes, ids: Sequence[str], tls_key: bytes | None) -> Proof:
        trust = self._config.trust
        signed = self._run(signatures(bodies_of(pending, answer), ids, self._config.algos, pending.model), pending)
        pin = trust.find(signed.signers, tls_key) or self._attest(signed.signers, tls_key, pending)
        return whole_proof(signed, pin)

    def _attest(self, signers: Signers | None, tls_key: bytes | None, pending: PendingRequest) -> Pin:
        """Attest keys, one attempt at a time, unless they were attested during the wait for the lock."""
        trust = self._config.trust
        made = self._attempts.made
        with self._attesting:
            pin = trust.attested(signers, tls_key)
            if pin is None:
                with self._attempts.attempt(pending.depends_on(signers, tls_key), made):
                    pin = self._run(trust.pin(signers, tls_key, pending.model), pending)
        return pin

    def _run(self, steps: Steps[T], pending: PendingRequest) -> T:
        came: Any = None
        countdown = Countdown(self._config.proof_timeout)
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                return cast("T", end.value)
            came = None
            if isinstance(step, StartDeadline):
                countdown = Countdown(self._config.proof_timeout)
            else:
                came = self._take(step, pending, countdown)

    def _take(self, step: Get | Wait | RunBlocking, pending: PendingRequest, countdown: Countdown) -> Any:
        if isinstance(step, Get):
            return self._get(step, pending, countdown)
        if isinstance(step, Wait):
            with countdown.running():
                time.sleep(min(step.seconds, max(countdown.left, 0)))
            return None
        # In a separate thread: it runs an event loop, and this thread may have one already, as in a notebook.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(step.call).result()

    def _get(self, step: Get, pending: PendingRequest, countdown: Countdown) -> Answer | FetchError:
        def ask(guard: TlsGuard | None) -> Answer | FetchError:
            if countdown.left <= 0:
                return took_too_long(self._config)
            request = proof_request(step, pending, self._config, countdown.left)
            with countdown.running() as end, self._deadline.at(end):
                return self._ask(step, request, guard, pending, end)

        guard = partial(self._config.guard, httpx2.URL(self._config.proof_url), about_keys=step.about_keys)
        try:
            return ask(guard()) if step.about_keys else self._send(guard, ask, pending)
        except (httpx2.TransportError, OSError) as error:
            return no_answer(error, self._config)

    def _ask(
        self, step: Get, request: httpx2.Request, guard: TlsGuard | None, pending: PendingRequest, end: float
    ) -> Answer | FetchError:
        response = self._send_guarded(request, guard)
        try:
            key = server_key(response) if self._config.tls else None
            body = bytearray()
            for piece in cast("httpx2.SyncByteStream", response.stream):
                body += piece
                if len(body) > MAX_PROOF_ANSWER:
                    return FetchError("its response is too long")
                if time.monotonic() > end:
                    return took_too_long(self._config)
        finally:
            response.close()
        return proof_answer(step, response, bytes(body), key, pending)


class _BoundedStream(httpx2.SyncByteStream):
    """An unproven response, limited in size."""

    def __init__(self, inner: httpx2.SyncByteStream, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._inner:
            size += len(piece)
            check_length(size, self._max_bytes)
            yield piece

    def close(self) -> None:
        self._inner.close()


class _ProvenStream(httpx2.SyncByteStream):
    """An event stream whose end is released once the whole stream is proven."""

    def __init__(
        self, inner: httpx2.SyncByteStream, tail_buffer: UnverifiedTailBuffer, prove: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._tail_buffer = tail_buffer
        self._prove = prove

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            if passing := self._tail_buffer.feed(piece):
                yield passing
        self._inner.close()
        self._prove()
        if held := self._tail_buffer.end():
            yield held

    def close(self) -> None:
        self._inner.close()
