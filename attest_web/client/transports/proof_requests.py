"""Builds the requests for proof, and converts their responses and errors."""

from typing import Final

import httpx2

from attest_web.client.proving.steps import Get, TookTooLongError
from attest_web.client.proving.trust import RefusedError
from attest_web.client.transports.tokens import redacted
from attest_web.client.transports.transport import EXTENSION, PendingProof, PendingRequest, TransportConfig
from attest_web.verify.primitives.http_client import Answer, FetchError

MAX_PROOF_ANSWER: Final = 8 * 1024 * 1024
"""Largest signature or report that is read, in bytes."""


def proof_request(step: Get, pending: PendingRequest, config: TransportConfig, seconds: float) -> httpx2.Request:
    """A request for proof, with the token of the request to be proven.

    Args:
        step: What to fetch.
        pending: The request to be proven.
        config: The transport's configuration.
        seconds: Timeout of each step, such as connecting.
    """
    headers = {"accept-encoding": "identity", "accept": "application/json", "user-agent": "tee-signer-client"}
    if pending.token is not None and step.with_token:
        headers["authorization"] = pending.token
    if config.tls and step.about_keys:
        headers["connection"] = "close"  # the server is not attested yet, so nothing else goes over this connection
    timeout = httpx2.Timeout(seconds).as_dict()
    return httpx2.Request("GET", config.proof_url + step.target, headers=headers, extensions={"timeout": timeout})


def proof_answer(
    step: Get, response: httpx2.Response, body: bytes, key: bytes | None, pending: PendingRequest
) -> Answer:
    """The response to a request for proof, with the token redacted.

    A report is not changed: its compose file, which was measured, may contain the token.

    Args:
        step: The request for proof.
        response: Status and headers.
        body: The body.
        key: SHA-256 of the SPKI of the server's TLS key; None without TLS.
        pending: The request to be proven.
    """
    is_report = step.about_keys and response.status_code == 200
    said = body if is_report else redacted(body, pending.token)
    return Answer(response.status_code, dict(response.headers), said, key)


def took_too_long(config: TransportConfig) -> TookTooLongError:
    """The error for a request for proof whose deadline has passed."""
    return TookTooLongError(f"the server took longer than {config.proof_timeout:g} seconds (see proof_timeout)")


def no_answer(error: Exception, config: TransportConfig) -> FetchError:
    """The error for a request for proof without a response.

    The library's message is repeated only for connection errors: other messages quote what was sent or received.
    """
    if isinstance(error, httpx2.TimeoutException):
        return took_too_long(config)
    told = f": {error}" if isinstance(error, httpx2.ConnectError | OSError) else ""
    return FetchError(f"{type(error).__name__}{told}")


def refusal(error: RefusedError) -> httpx2.Response:
    """The server's rejection of a report request, as the response to the client's request.

    So a wrong token becomes the SDK's own `AuthenticationError`, and the SDK retries if the server is busy. Only the
    status is passed on.

    Raises:
        RefusedError: The status means that the server has no reports, or none for this client.
    """
    status = error.answer.status
    if status not in (401, 403, 408, 429) and status < 500:
        raise error
    told = ("content-type", "retry-after", "retry-after-ms")
    kept = {name: value for name, value in error.answer.headers.items() if name in told}
    return httpx2.Response(status, headers=kept, content=error.answer.body, extensions={EXTENSION: PendingProof()})
