"""The openai package's own clients, over a transport that verifies."""

import ssl
from collections.abc import Callable, Collection, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from attest_web.client.policy_options import attestation_policy
from attest_web.client.proving.errors import UnprovenError
from attest_web.client.proving.proof import Proof
from attest_web.client.proving.trust import AttestedSigners, KnownSigners
from attest_web.client.transports.async_transport import AsyncVerifyingTransport
from attest_web.client.transports.sync_transport import VerifyingTransport
from attest_web.client.transports.tokens import checked_headers, refuse_token
from attest_web.client.transports.transport import EXTENSION, PendingProof, TransportConfig
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.certificate_verifier import CertificateVerifier, any_certificate
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.http_client import MAX_BYTES

_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)  # the SDK's own


class VerifiedOpenAI(OpenAI):
    """An `OpenAI` client that returns only proven responses. Made by `verified_openai`."""

    def __init__(self, **options: Any) -> None:
        refuse_token(options.get("api_key"))
        super().__init__(**options)
        refuse_token(self.api_key)  # it may come from the environment

    def _build_headers(self, options: Any, *, retries_taken: int = 0) -> httpx2.Headers:
        """Reject a token that cannot be sent, whatever its source. The SDK calls this for every request."""
        return checked_headers(lambda: super(VerifiedOpenAI, self)._build_headers(options, retries_taken=retries_taken))

    def _process_response(self, **given: Any) -> Any:
        """Attach the proof to the response. The SDK calls this for every response; a test checks that it still does."""
        pending_proof = _pending_proof(given["response"])
        made = super()._process_response(**given)
        pending_proof.attach(made)
        return made

    def _websocket_query_params(self, *_: Any, **__: Any) -> httpx2.QueryParams:
        raise _no_websockets()

    def _websocket_query_params_fallback(self, *_: Any, **__: Any) -> httpx2.QueryParams:
        raise _no_websockets()


class VerifiedAsyncOpenAI(AsyncOpenAI):
    """An `AsyncOpenAI` client that returns only proven responses. Made by `verified_async_openai`."""

    def __init__(self, **options: Any) -> None:
        refuse_token(options.get("api_key"))
        super().__init__(**options)
        refuse_token(self.api_key)

    def _build_headers(self, options: Any, *, retries_taken: int = 0) -> httpx2.Headers:
        """See `VerifiedOpenAI`."""
        return checked_headers(
            lambda: super(VerifiedAsyncOpenAI, self)._build_headers(options, retries_taken=retries_taken)
        )

    async def _process_response(self, **given: Any) -> Any:
        """See `VerifiedOpenAI`."""
        pending_proof = _pending_proof(given["response"])
        made = await super()._process_response(**given)
        pending_proof.attach(made)
        return made

    def _websocket_query_params(self, *_: Any, **__: Any) -> httpx2.QueryParams:
        raise _no_websockets()

    def _websocket_query_params_fallback(self, *_: Any, **__: Any) -> httpx2.QueryParams:
        raise _no_websockets()


def verified_openai(
    base_url: str,
    *,
    policy: Policy | None = None,
    signers: Sequence[str] | None = None,
    proof_url: str | None = None,
    tls_binding: bool = True,
    ra_tls: bool = False,
    algos: Sequence[SigningAlgo] = SIGNING_ALGOS,
    public_reports: bool = False,
    allow_unproven: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    proof_timeout: float = 30.0,
    on_proof: Callable[[Proof], None] | None = None,
    transport: httpx2.BaseTransport | None = None,
    **options: Any,
) -> VerifiedOpenAI:
    """An `openai.OpenAI` that checks every response before it returns it, and every stream before its end.

        client = verified_openai("https://HOST/v1", api_key=TOKEN)
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        proof_of(answer).save("proof.json")

    Args:
        base_url: The server's address, with `/v1` at its end. Requests to other addresses fail, and redirects are not
            followed.
        policy: The requirements on the attestation; by default, those of `attestation_policy`, which are strict.
        signers: Addresses whose signatures are accepted without attestation: at least one for each of `algos`.
        proof_url: The address of signatures and reports in the same form, for example a side port; by default
            `base_url`.
        tls_binding: Whether the server's TLS key must be the attested one. It has no effect without TLS. It must be
            False if another party, such as a load balancer, terminates TLS.
        ra_tls: Whether the server's certificate is a dstack certificate, which is verified by the attestation in it,
            and not by an authority, before anything is sent. It needs a `policy` that pins compose file and guest
            image; a `transport` of your own must then accept any certificate.
        algos: The algorithms that must have signed. Not every server has both.
        public_reports: Whether the server serves its reports without a token (`ATTESTATION_PUBLIC=1`), so that the
            token is never sent before the server's key is attested. By default, reports are requested without the
            token first, and then with it if the server requires it.
        allow_unproven: Paths whose responses may be unproven, as in `{"/models"}`.
        max_bytes: Largest request and largest response, in bytes: both are kept for the proof.
        proof_timeout: Seconds that each request for a report or a signature may take, including its retries.
        on_proof: Called with every proof.
        transport: The transport that connects; by default, a new `httpx2.HTTPTransport`. For your own certificates and
            forward proxies.
        options: All other options of `openai.OpenAI`, except `http_client`.

    Raises:
        ValueError: An argument is invalid, or the token cannot be sent.
    """
    config = _transport_config(
        base_url,
        policy,
        signers,
        proof_url,
        algos,
        tls_binding=tls_binding,
        ra_tls=ra_tls,
        public_reports=public_reports,
        allow_unproven=frozenset(allow_unproven),
        max_bytes=max_bytes,
        proof_timeout=proof_timeout,
        on_proof=on_proof,
    )
    inner = transport if transport is not None else httpx2.HTTPTransport(limits=_LIMITS, verify=_verify(ra_tls))
    verifying = VerifyingTransport(inner, config)
    http_client = DefaultHttpxClient(transport=verifying, follow_redirects=False, cookies=_no_cookies())
    return VerifiedOpenAI(base_url=base_url, http_client=http_client, **_checked(options))


def verified_async_openai(
    base_url: str,
    *,
    policy: Policy | None = None,
    signers: Sequence[str] | None = None,
    proof_url: str | None = None,
    tls_binding: bool = True,
    ra_tls: bool = False,
    algos: Sequence[SigningAlgo] = SIGNING_ALGOS,
    public_reports: bool = False,
    allow_unproven: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    proof_timeout: float = 30.0,
    on_proof: Callable[[Proof], None] | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    **options: Any,
) -> VerifiedAsyncOpenAI:
    """The same as `verified_openai`, for `openai.AsyncOpenAI`. `on_proof` is called on the event loop."""
    config = _transport_config(
        base_url,
        policy,
        signers,
        proof_url,
        algos,
        tls_binding=tls_binding,
        ra_tls=ra_tls,
        public_reports=public_reports,
        allow_unproven=frozenset(allow_unproven),
        max_bytes=max_bytes,
        proof_timeout=proof_timeout,
        on_proof=on_proof,
    )
    inner = transport if transport is not None else httpx2.AsyncHTTPTransport(limits=_LIMITS, verify=_verify(ra_tls))
    verifying = AsyncVerifyingTransport(inner, config)
    http_client = DefaultAsyncHttpxClient(transport=verifying, follow_redirects=False, cookies=_no_cookies())
    return VerifiedAsyncOpenAI(base_url=base_url, http_client=http_client, **_checked(options))


def proof_of(answer: object) -> Proof:
    """The proof of a response: its `proof` attribute, with a type.

    Args:
        answer: A result of a verified client: a response, a stream that has been read to its end, or a raw response.

    Raises:
        UnprovenError: It has no proof, or none yet.
    """
    proof = getattr(answer, "proof", None)
    if not isinstance(proof, Proof):
        raise UnprovenError("this has no proof: a stream has one after it has been read to its end, others at once")
    return proof


def _transport_config(
    base_url: str,
    policy: Policy | None,
    signers: Sequence[str] | None,
    proof_url: str | None,
    algos: Sequence[SigningAlgo],
    *,
    tls_binding: bool,
    ra_tls: bool,
    public_reports: bool,
    **more: Any,
) -> TransportConfig:
    if not algos or not set(algos) <= set(SIGNING_ALGOS):
        raise ValueError("algos takes ecdsa, ed25519, or both")
    if policy is not None and signers is not None:
        raise ValueError("policy and signers: give one of them")
    if public_reports and signers is not None:
        raise ValueError("public_reports withholds the token until keys are attested; signers skips that: give one")
    for url in map(httpx2.URL, (base_url, proof_url or base_url)):
        if url.scheme not in ("http", "https"):
            raise ValueError("a URL here begins with http:// or https://")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("a URL here has no user or password, no query and no fragment; the token is for api_key")
    tls = tls_binding and signers is None and httpx2.URL(base_url).scheme == "https"
    algos = tuple(dict.fromkeys(algos))
    verify_certificate = None
    if ra_tls:
        pinned = policy is not None and policy.compose_hash is not None and policy.pins_guest
        if policy is None or not pinned or not tls or httpx2.URL(proof_url or base_url).scheme != "https":
            raise ValueError(
                "ra_tls goes with https (of proof_url, too), tls_binding, and a policy that pins compose_hash and the"
                " guest (os_image_hashes, or mrtd and rtmrs)"
            )
        verify_certificate = CertificateVerifier(policy)
    trust: KnownSigners | AttestedSigners
    if signers is not None:
        trust = KnownSigners(signers)
    else:
        given = policy if policy is not None else attestation_policy()
        trust = AttestedSigners(given, algos, tls=tls, send_token=not public_reports)
    base = base_url.rstrip("/")
    proof = (proof_url or base_url).rstrip("/")
    return TransportConfig(
        base, proof, trust, algos, tls, public_reports=public_reports, verify_certificate=verify_certificate, **more
    )


def _verify(ra_tls: bool) -> bool | ssl.SSLContext:
    return any_certificate() if ra_tls else True


def _no_cookies() -> CookieJar:
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    if "http_client" in options:
        raise ValueError("http_client would bypass the checks; give a transport instead")
    return options


def _pending_proof(response: httpx2.Response) -> PendingProof:
    pending_proof = response.extensions.get(EXTENSION)
    if not isinstance(pending_proof, PendingProof):
        raise UnprovenError("this response bypassed the verifying transport; make clients with verified_openai")
    return pending_proof


def _no_websockets() -> UnprovenError:
    return UnprovenError("a WebSocket cannot be verified by this client; use openai's own client and tee-verify")
