"""The transport of `OpenAI`."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

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


class VerifyingTransport(httpx2.BaseTransport):
    """Sends requests by another transport, and gives no answer that is not proven."""

    def __init__(self, inner: httpx2.BaseTransport, rules: Rules) -> None:
        self._inner = inner
        self._rules = rules
        self._attesting = threading.Lock()

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
        response = self._send(request, asked)
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
        if trust.settled or (asked.path in self._rules.allow_unproven and not self._rules.tls):
            return None
        try:
            with self._attesting:
                if not trust.settled:
                    self._run(trust.pin(None, None, asked.model), asked)
        except RefusedError as error:
            return refusal(error)
        return None

    def _send(self, request: httpx2.Request, asked: Asked) -> httpx2.Response:
        """Send a request over a connection to an attested key; one to a new key waits until that is attested, too."""
        for _ in range(2):
            try:
                return self._send_guarded(request, self._rules.guard(request))
            except UnknownTlsKeyError as unknown:
                with self._attesting:
                    if unknown.key not in self._rules.trust.tls_keys:
                        self._run(self._rules.trust.pin(None, unknown.key, asked.model), asked)
        raise another_key()

    def _send_guarded(self, request: httpx2.Request, guard: TlsGuard | None) -> httpx2.Response:
        if guard is not None:
            request.extensions = {**request.extensions, "trace": guard.trace}
        return self._inner.handle_request(request)

    def _checked(self, asked: Asked, response: httpx2.Response) -> httpx2.Response:
        verdict = Verdict(self._rules.on_proof)
        response.extensions[EXTENSION] = verdict
        if may_go_unproven(response, asked, self._rules):
            return response
        refuse_encoding(response)
        tls_key = server_key(response) if self._rules.tls else None
        inner = cast("httpx2.SyncByteStream", response.stream)

        def settle(answer: bytes, own_id: str | None) -> None:
            verdict.settle(self._prove(asked, answer, ids_of(response, own_id), tls_key))

        if may_come_in_parts(response, asked):
            gate = StreamGate(self._rules.max_bytes)
            response.stream = _ProvenStream(inner, gate, lambda: settle(gate.content, gate.id))
            return response
        answer = bytearray()
        for piece in inner:
            answer += piece
            check_length(answer, self._rules.max_bytes)
        inner.close()
        settle(bytes(answer), id_in(bytes(answer)))
        response.stream = httpx2.ByteStream(bytes(answer))
        return response

    def _prove(self, asked: Asked, answer: bytes, ids: Sequence[str], tls_key: bytes | None) -> Proof:
        trust = self._rules.trust
        signed = self._run(signatures(exchange_of(asked, answer), ids, self._rules.algos, asked.model), asked)
        pin: Pin | None = trust.find(signed.signers, tls_key)
        if pin is None:
            with self._attesting:
                pin = trust.find(signed.signers, tls_key)
                if pin is None:
                    pin = self._run(trust.pin(signed.signers, tls_key, asked.model), asked)
        return whole_proof(signed, pin)

    def _run(self, steps: Steps[T], asked: Asked) -> T:
        came: Any = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                return cast("T", end.value)
            came = self._take(step, asked)

    def _take(self, step: Step, asked: Asked) -> Any:
        if isinstance(step, Get):
            return self._get(step, asked)
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        # In a thread of its own: it runs an event loop, and there may be one here, as in a notebook.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(step.call).result()

    def _get(self, step: Get, asked: Asked) -> Answer | FetchError:
        deadline = time.monotonic() + self._rules.proof_timeout
        try:
            request = proof_request(step, asked, self._rules)
            if step.about_keys:
                response = self._send_guarded(request, self._rules.guard(request, about_keys=True))
            else:
                response = self._send(request, asked)
            try:
                key = server_key(response) if self._rules.tls else None
                body = bytearray()
                for piece in cast("httpx2.SyncByteStream", response.stream):
                    body += piece
                    if len(body) > MAX_PROOF_ANSWER or time.monotonic() > deadline:
                        return FetchError("its answer is too long, or took too long")
            finally:
                response.close()
        except (httpx2.TransportError, OSError) as error:
            return FetchError(f"{type(error).__name__}: {error}")
        except UnprovenError as error:
            return FetchError(str(error))
        return Answer(response.status_code, dict(response.headers), bytes(body), key)


class _ProvenStream(httpx2.SyncByteStream):
    """An event stream whose end comes out when all of it is proven."""

    def __init__(self, inner: httpx2.SyncByteStream, gate: StreamGate, prove: Callable[[], None]) -> None:
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
