"""Sends a chat, and fetches its signatures and the reports about their keys."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from attest_web.response_ids import usable_id
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.primitives.checks import Check, FailedError, Status, make
from attest_web.verify.primitives.http_client import Answer, FetchError, HttpClient
from attest_web.verify.primitives.untrusted_json import as_object, items, parse_object, text
from attest_web.verify.signed_text import SignatureAnswer, SignedBodies, shown_address, why_not_signed

MAX_REASON = 200
"""Longest reason for an unsigned exchange that is shown, in characters."""

_DELAYS = (0.1, 0.2, 0.4)
"""Seconds between requests for a signature that was not found. A signature is stored before the response ends, but the
reason for a missing signature is stored when the exchange is over, which may be a moment later."""

_RECEIPT = re.compile("rcpt-[0-9a-f]{24}")
_DOT_SEGMENTS = frozenset({".", ".."})
"""Ids that are special path segments and would lead to another page (RFC 3986, 3.3)."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_HINTS: Mapping[int, str] = {
    401: "give the proxy's token in TOKEN or with --token",
    429: "try again later",
    503: "see the proxy's log",
}
_CHAT_HINTS = {
    **_HINTS,
    404: "--url takes the port that clients use, without /v1; --model takes a model that is served",
}
_HINTS_WITHOUT_A_REASON: Mapping[int, str] = {404: "is this a tee-signer, and new enough?"}
"""Hints for errors without a message in the proxy's own format."""


@dataclass(frozen=True)
class Chat:
    """The chat to send.

    Attributes:
        message: The prompt.
        model: The model; None for the first of `/v1/models`.
        stream: Whether to request server-sent events.
    """

    message: str
    model: str | None = None
    stream: bool = False


class _NotFoundError(FailedError):
    """The proxy responded with 404 and no reason."""


class EvidenceCollector:
    """Sends one chat to a proxy and collects the evidence about it.

    Attributes:
        evidence: What has been fetched so far.
        checks: The outcome of the requests.
    """

    def __init__(
        self,
        client: HttpClient,
        nonce: bytes,
        tls_binding: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare the requests; nothing is sent yet.

        Args:
            client: The client of the proxy.
            nonce: 32 random bytes for the reports.
            tls_binding: Whether the proxy's TLS key must be attested, where the connection is TLS.
            sleep: Waits for so many seconds.
        """
        self._client = client
        self._sleep = sleep
        self._nonce = nonce
        self._tls = tls_binding and client.origin.tls
        self._keys_seen: set[bytes] = set()
        self.evidence = Evidence(nonce=nonce, tls_keys=frozenset() if self._tls else None)
        self.checks: list[Check] = []

    def collect(self, chat: Chat) -> None:
        """Send the chat, then fetch signatures and reports. Failures are in `checks`."""
        try:
            response_id, receipt = self._chat(chat)
        except FailedError as error:
            self.checks.append(Check("chat", Status.FAILED, str(error)))
            self.checks.append(Check("signatures and reports", Status.NOT_MADE, "there is no response to check"))
            return
        for algo in SIGNING_ALGOS:
            self._signature(algo, response_id, receipt)
        for statement in self.evidence.signatures:
            self._report(statement)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        try:
            answer = self._client.request(method, path, body)
        except FetchError as error:
            raise FailedError(str(error)) from None
        if answer.spki_sha256 is not None and self._tls:
            self._keys_seen.add(answer.spki_sha256)
            self.evidence.tls_keys = frozenset(self._keys_seen)
        if (reason := _why_not_signed(answer)) is not None:
            raise FailedError(f"the proxy has no signature for it: {reason}")
        if answer.status != 200:
            hints = _CHAT_HINTS if method == "POST" else _HINTS
            refusal = _NotFoundError if answer.status == 404 else FailedError
            raise refusal(f"{path.partition('?')[0]} returned {answer.status}{_reason(answer, hints)}")
        return answer

    def _get_with_retries(self, path: str) -> Answer:
        for delay in _DELAYS:
            try:
                return self._ask("GET", path)
            except _NotFoundError:
                self._sleep(delay)
        return self._ask("GET", path)

    def _chat(self, chat: Chat) -> tuple[str, str | None]:
        model = chat.model if chat.model is not None else self._first_model()
        question = {"model": model, "messages": [{"role": "user", "content": chat.message}], "max_tokens": 64}
        request = json.dumps(question | ({"stream": True} if chat.stream else {})).encode()
        answer = self._ask("POST", "/v1/chat/completions", request)
        self.evidence.bodies = SignedBodies(request, answer.body)
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = media_type == "text/event-stream"
        response_id = _id_of_stream(answer.body) if streamed else _id_of(answer.body)
        if response_id is None:
            raise FailedError("the response has no id to fetch a signature by")
        receipt = answer.headers.get("x-receipt-id")
        digest = hashlib.sha256(answer.body).hexdigest()
        how = "streamed" if streamed else "answered"
        detail = f"{model!r} {how} {len(answer.body)} bytes, SHA-256 {digest}, id {response_id}"
        self.checks.append(Check("chat", Status.PASSED, detail))
        return response_id, receipt

    def _first_model(self) -> str:
        models = items(parse_object(self._ask("GET", "/v1/models").body, "the list of models"), "data", "it")
        if not models:
            raise FailedError("the proxy serves no model; name one with --model")
        return text(as_object(models[0], "the first model"), "id", "the first model")

    def _signature(self, algo: SigningAlgo, response_id: str, receipt: str | None) -> None:
        query = f"?signing_algo={algo}"
        try:
            by_id = self._get_with_retries(f"/v1/signature/{quote(response_id, safe='')}{query}").body
        except FailedError as error:
            self.checks.append(Check(f"{algo} signature", Status.FAILED, str(error)))
            return
        self.evidence.signatures.append(Statement(by_id, algo))

        def receipt_finds_it() -> str:
            if receipt is None or not _RECEIPT.fullmatch(receipt):
                raise FailedError("the response does not have one x-receipt-id of the form rcpt- and 24 hex digits")
            by_receipt = self._ask("GET", f"/v1/signature/{receipt}{query}").body
            if SignatureAnswer.parse(by_receipt) != SignatureAnswer.parse(by_id):
                raise FailedError(f"{receipt} finds another signature than {response_id}")
            return f"{receipt} finds the same signature"

        self.checks.append(make(f"{algo} receipt", receipt_finds_it))

    def _report(self, signature: Statement) -> None:
        name = f"{signature.algo} report"
        try:
            signed = SignatureAnswer.parse(signature.body)
        except FailedError:
            why = "the signature names no address to request a report by"
            self.checks.append(Check(name, Status.NOT_MADE, why))
            return
        query = {
            "signing_algo": signed.algo,
            "nonce": self._nonce.hex(),
            "signing_address": shown_address(signed.algo, signed.address),
            "include_tls_fingerprint": "true" if self._tls else "false",
        }
        try:
            answer = self._ask("GET", f"/v1/attestation/report?{urlencode(query)}")
        except FailedError as error:
            self.checks.append(Check(name, Status.FAILED, str(error)))
            return
        self.evidence.reports.append(Statement(answer.body, signature.algo))


def _reason(answer: Answer, hints: Mapping[int, str]) -> str:
    """The message of an error in the format of the wire contract, and a hint about what to do."""
    try:
        error = as_object(parse_object(answer.body, "the error").get("error"), "the error")
        said = f": {text(error, 'message', 'the error').rstrip('.')}"
    except FailedError:
        said = ""
    hint = hints.get(answer.status) or (None if said else _HINTS_WITHOUT_A_REASON.get(answer.status))
    return f"{said}; {hint}" if hint else said


def _why_not_signed(answer: Answer) -> str | None:
    reason = why_not_signed(answer.status, answer.body, MAX_REASON)
    return reason.rstrip(".") if reason else None


def _id_of(body: bytes | str) -> str | None:
    try:
        found = usable_id(parse_object(body, "the response").get("id"))
    except FailedError:
        return None
    return None if found in _DOT_SEGMENTS else found


def _id_of_stream(body: bytes) -> str | None:
    """The `id` of the first event that has one. Every event of a chat is one line."""
    for line in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf")):
        if line.startswith(b"data:") and b'"id"' in line and (found := _id_of(line[5:].strip())) is not None:
            return found
    return None
