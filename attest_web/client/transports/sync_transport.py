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
from attest_web.client.proving.steps import Get, Question, Steps, T, Wait, Work
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
    Asked,
    Rules,
    Verdict,
    another_key,
    exchange_of,
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
    """Sends requests by another transport, and gives no answer that is not proven."""

    def __init__(self, inner: httpx2.BaseTransport, rules: Rules) -> None:
        self._inner = inner
        self._rules = rules
        self._attempts = Attempts()
        self._attesting = threading.Lock()
        self._deadline = ThreadDeadline()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.BaseTransport`.

        Raises:
            ProofError: The answer is not proven.
        """
        request.read()
        asked = Asked.of(request, self._rules)
        refused = self._settle(asked)
        if refused is not None:
            return refused
        guard = partial(self._rules.guard, request.url)
        response = self._send(guard, partial(self._send_guarded, request), asked)
        try:
            return self._checked(asked, response)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _settle(self, asked: Asked) -> httpx2.Response | None:
        """Have keys attested before the first request is sent; return an answer where that was refused."""
        trust = self._rules.trust
        if trust.settled or self._rules.may_go_unattested(asked.path):
            return None
        try:
            self._attest(None, None, asked)
        except RefusedError as error:
            return refusal(error)
        return None

    def _send(self, guard: Callable[[], TlsGuard | None], send: Callable[[TlsGuard | None], T], asked: Asked) -> T:
        """Send over a connection to an attested key; what finds a new one waits until that is attested, too."""
        for _ in range(2):
            try:
                return send(guard())
            except UnknownTlsKeyError as unknown:
                self._attest(None, unknown.key, asked)
        raise another_key()

    def _send_guarded(self, request: httpx2.Request, guard: TlsGuard | None) -> httpx2.Response:
        def trace(event: str, info: dict[str, Any]) -> None:
            self._deadline.trace(event, info)
            if guard is not None:
                guard.trace(event, info)

        request.extensions = {**request.extensions, "trace": trace}
        return self._inner.handle_request(request)

    def _checked(self, asked: Asked, response: httpx2.Response) -> httpx2.Response:
        verdict = Verdict(self._rules.on_proof)
        response.extensions[EXTENSION] = verdict
        inner = cast("httpx2.SyncByteStream", response.stream)
        if may_go_unproven(response, asked, self._rules):
            if is_encoded(response) and response.status_code >= 300:
                inner.close()
                return with_stream(response, httpx2.ByteStream(b""))
            refuse_compression(response)
            return with_stream(response, _BoundedStream(inner, self._rules.max_bytes))
        refuse_encoding(response)
        tls_key = server_key(response) if self._rules.tls else None

        def settle(answer: bytes, own_id: str | None) -> None:
            verdict.settle(self._prove(asked, answer, ids_of(response, own_id), tls_key))

        if may_come_in_parts(response, asked):
            gate = UnverifiedTailBuffer(self._rules.max_bytes)
            return with_stream(response, _ProvenStream(inner, gate, lambda: settle(gate.content, gate.id)))
        answer = bytearray()
        for piece in inner:
            check_length(len(answer) + len(piece), self._rules.max_bytes)
            answer += piece
        inner.close()
        settle(bytes(answer), id_in(bytes(answer)))
        return with_stream(response, httpx2.ByteStream(bytes(answer)))

    def _prove(self, asked: Asked, answer: bytes, ids: Sequence[str], tls_key: bytes | None) -> Proof:
        trust = self._rules.trust
        signed = self._run(signatures(exchange_of(asked, answer), ids, self._rules.algos, asked.model), asked)
        pin = trust.find(signed.signers, tls_key) or self._attest(signed.signers, tls_key, asked)
        return whole_proof(signed, pin)

    def _attest(self, signers: Signers | None, tls_key: bytes | None, asked: Asked) -> Pin:
        """Have keys attested, unless they have been since; one at a time."""
        trust = self._rules.trust
        made = self._attempts.made
        with self._attesting:
            pin = trust.attested(signers, tls_key)
            if pin is None:
                with self._attempts.attempt(asked.depends_on(signers, tls_key), made):
                    pin = self._run(trust.pin(signers, tls_key, asked.model), asked)
        return pin

    def _run(self, steps: Steps[T], asked: Asked) -> T:
        came: Any = None
        countdown = Countdown(self._rules.proof_timeout)
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                return cast("T", end.value)
            came = None
            if isinstance(step, Question):
                countdown = Countdown(self._rules.proof_timeout)
            else:
                came = self._take(step, asked, countdown)

    def _take(self, step: Get | Wait | Work, asked: Asked, countdown: Countdown) -> Any:
        if isinstance(step, Get):
            return self._get(step, asked, countdown)
        if isinstance(step, Wait):
            with countdown.running():
                time.sleep(min(step.seconds, max(countdown.left, 0)))
            return None
        # In a thread of its own: it runs an event loop, and there may be one here, as in a notebook.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(step.call).result()

    def _get(self, step: Get, asked: Asked, countdown: Countdown) -> Answer | FetchError:
        def ask(guard: TlsGuard | None) -> Answer | FetchError:
            if countdown.left <= 0:
                return took_too_long(self._rules)
            request = proof_request(step, asked, self._rules, countdown.left)
            with countdown.running() as end, self._deadline.at(end):
                return self._ask(step, request, guard, asked, end)

        guard = partial(self._rules.guard, httpx2.URL(self._rules.proof_url), about_keys=step.about_keys)
        try:
            return ask(guard()) if step.about_keys else self._send(guard, ask, asked)
        except (httpx2.TransportError, OSError) as error:
            return no_answer(error, self._rules)

    def _ask(
        self, step: Get, request: httpx2.Request, guard: TlsGuard | None, asked: Asked, end: float
    ) -> Answer | FetchError:
        response = self._send_guarded(request, guard)
        try:
            key = server_key(response) if self._rules.tls else None
            body = bytearray()
            for piece in cast("httpx2.SyncByteStream", response.stream):
                body += piece
                if len(body) > MAX_PROOF_ANSWER:
                    return FetchError("its answer is too long")
                if time.monotonic() > end:
                    return took_too_long(self._rules)
        finally:
            response.close()
        return proof_answer(step, response, bytes(body), key, asked)


class _BoundedStream(httpx2.SyncByteStream):
    """An answer that goes unproven, up to as many bytes as one may have."""

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
    """An event stream whose end comes out when all of it is proven."""

    def __init__(self, inner: httpx2.SyncByteStream, gate: UnverifiedTailBuffer, prove: Callable[[], None]) -> None:
        self._inner = inner
        self._gate = gate
        self._prove = prove

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            if passing := self._gate.feed(piece):
                yield passing
        self._inner.close()
        self._prove()
        if held := self._gate.end():
            yield held

    def close(self) -> None:
        self._inner.close()
