"""The signed tokens in which NVIDIA's attestation service (NRAS) states its verdict on GPU evidence.

The response to `POST /v3/attest/gpu` is a detached token bundle (RFC 9711, 5), as JSON:

    [["JWT", overall token], {"GPU-0": token, "GPU-1": token, ...}]

Each token is a JSON Web Token (RFC 7519) signed with ES384. The overall token has the result and, as `submods`, the
SHA-256 of each other token. Each other token has the claims about one GPU. All tokens are about one nonce.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jwt

from attest_web.verify.nvidia.claims import check_gpu_claims
from attest_web.verify.nvidia.evidence import MAX_GPUS
from attest_web.verify.nvidia.keys import NvidiaKeys
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.http_client import Origin
from attest_web.verify.primitives.untrusted_json import JsonObject, as_object, integer, parse_json, parse_object

ISSUER = "https://nras.attestation.nvidia.com"
ALGORITHM = "ES384"
TOLERANCE = 60
"""Largest difference between the clocks of verifier and service, in seconds."""

MAX_ANSWER = 2 * 1024 * 1024
MAX_TOKEN = 64 * 1024
"""Longest token, in characters. NVIDIA's have up to 3000."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_GPU = re.compile(r"GPU-(?:0|[1-9][0-9]{0,2})")
_SHA256_NAMES = ("SHA-256", "SHA256")
"""The names of the hash in the service and in NVIDIA's own library."""


@dataclass(frozen=True)
class Verdict:
    """NVIDIA's verdict that GPUs are genuine.

    Attributes:
        ueids: The serial number of each GPU's certificate, in decimal digits.
    """

    ueids: frozenset[str]

    def __str__(self) -> str:
        return f"NVIDIA has verified {len(self.ueids)} GPU(s), in tokens signed with its keys"


@dataclass(frozen=True)
class TokenBundle:
    """The tokens of a response, not yet checked.

    Attributes:
        overall: The token with the result.
        by_gpu: The token about each GPU, by the GPU's name.
    """

    overall: str
    by_gpu: Mapping[str, str]

    @classmethod
    def parse(cls, answer: bytes) -> "TokenBundle":
        """Parse a response.

        Raises:
            FailedError: It is not of the form above, or has tokens for more than `MAX_GPUS`.
        """
        if len(answer) > MAX_ANSWER:
            raise FailedError(f"its response is longer than {MAX_ANSWER} bytes")
        match parse_json(answer, "its response"):
            case [["JWT", str(overall)], dict(by_gpu)]:
                pass
            case _:
                raise FailedError("its response is not a token with a token for each GPU")
        if len(by_gpu) > MAX_GPUS:
            raise FailedError(f"its response has tokens for {len(by_gpu)} GPUs, more than {MAX_GPUS}")
        for name in by_gpu:
            if not _GPU.fullmatch(name):
                raise FailedError(f"its response has a token for {name!r}, which is not a GPU")
        for token in (overall, *by_gpu.values()):
            if not (isinstance(token, str) and len(token) <= MAX_TOKEN and _TOKEN.fullmatch(token)):
                raise FailedError("its response has a token that is not a signed JWT")
        return cls(overall, by_gpu)

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of the keys that the tokens name."""
        found = (_key_id(token) for token in (self.overall, *self.by_gpu.values()))
        return frozenset(key_id for key_id in found if key_id is not None)


def key_ids(answer: bytes) -> frozenset[str]:
    """The ids of the keys that a response needs, for `NvidiaKeysFetcher`; empty if the response is malformed."""
    try:
        return TokenBundle.parse(answer).key_ids
    except FailedError:
        return frozenset()


def issuer_of(service: Origin) -> str:
    """The `iss` of the tokens of the service at an address; `ISSUER` for NVIDIA's."""
    scheme, default = ("https", 443) if service.tls else ("http", 80)
    host = f"[{service.host}]" if ":" in service.host else service.host
    return f"{scheme}://{host}" + (f":{service.port}" if service.port != default else "")


def check_verdict(
    answer: bytes, nonce: bytes, keys: NvidiaKeys | None, *, now: float, gpus: int, issuer: str = ISSUER
) -> Verdict:
    """Check a response of the service; return its verdict.

    The connection proves nothing: each token must be signed.

    Args:
        answer: The body of the response.
        nonce: The nonce that the verdict must be about, 32 bytes.
        keys: NVIDIA's keys; None if they could not be fetched.
        now: The time, in seconds since 1970.
        gpus: Number of GPUs with evidence.
        issuer: The name of the service; see `issuer_of`.

    Raises:
        FailedError: NVIDIA rejects this evidence.
        NotMadeError: The response is not a verdict, or there are no keys to check it with.
    """
    if keys is None:
        raise NotMadeError("NVIDIA's verdict cannot be checked without its keys")
    try:
        bundle = TokenBundle.parse(answer)
    except FailedError as error:
        raise NotMadeError(f"no verdict came from NVIDIA's service: {error}") from None

    def claims_of(token: str, what: str) -> JsonObject:
        claims = _signed_claims(token, keys, now, what)
        _check_registered_claims(claims, now, issuer, what)
        about = claims.get("eat_nonce")
        if not isinstance(about, str) or about.lower() != nonce.hex():
            raise FailedError(f"{what} is about another nonce")
        return claims

    overall = claims_of(bundle.overall, "NVIDIA's verdict")
    if overall.get("x-nvidia-overall-att-result") is not True:
        raise FailedError("NVIDIA's verdict is that this evidence is invalid")
    _check_digests(overall, bundle.by_gpu)
    if len(bundle.by_gpu) != gpus:
        raise FailedError(f"NVIDIA's verdict is about {len(bundle.by_gpu)} GPUs, not the {gpus} of the request")
    ueids = set()
    for name, token in bundle.by_gpu.items():
        what = f"NVIDIA's token for {name}"
        ueid = check_gpu_claims(claims_of(token, what), what)
        if ueid in ueids:
            raise FailedError(f"{what} is about a GPU that another token is about, {ueid}")
        ueids.add(ueid)
    return Verdict(frozenset(ueids))


def _key_id(token: str) -> str | None:
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        return None
    return key_id if isinstance(key_id, str) else None


def _signed_claims(token: str, keys: NvidiaKeys, now: float, what: str) -> JsonObject:
    key_id = _key_id(token)
    key = keys.by_id.get(key_id) if key_id is not None else None
    if key is None:
        raise FailedError(f"{what} names no key of NVIDIA's")
    if (validity := keys.validity.get(key_id or "")) is not None:
        begins, ends = (moment.timestamp() for moment in validity)
        if not begins - TOLERANCE <= now <= ends + TOLERANCE:
            raise FailedError(f"{what} is signed with a key whose certificate is not valid at this time")
    try:
        # The list prevents a token from choosing its own algorithm, such as `none` (RFC 8725, 3.1).
        signed = jwt.PyJWS(algorithms=[ALGORITHM]).decode_complete(token, key, algorithms=[ALGORITHM])
    except jwt.PyJWTError:
        raise FailedError(f"{what} is not signed by NVIDIA's key {key_id!r} with {ALGORITHM}") from None
    # Not parsed by PyJWT: it uses the system's time, and the last of two claims with one name.
    return parse_object(signed["payload"], what)


def _check_registered_claims(claims: JsonObject, now: float, issuer: str, what: str) -> None:
    if claims.get("iss") != issuer:
        raise FailedError(f"{what} is not issued by {issuer}")
    if now >= integer(claims, "exp", what) + TOLERANCE:
        raise FailedError(f"{what} has expired")
    for name in ("nbf", "iat"):
        if name in claims and now < integer(claims, name, what) - TOLERANCE:
            raise FailedError(f"{what} is not valid yet")


def _check_digests(overall: JsonObject, by_gpu: Mapping[str, str]) -> None:
    listed = as_object(overall.get("submods"), "'submods' of NVIDIA's verdict")
    if listed.keys() != by_gpu.keys():
        raise FailedError("NVIDIA's verdict is about other GPUs than the tokens that came with it")
    for name, token in by_gpu.items():
        digest = hashlib.sha256(token.encode()).hexdigest()
        if listed[name] not in [["DIGEST", [algorithm, digest]] for algorithm in _SHA256_NAMES]:
            raise FailedError(f"NVIDIA's verdict is about another token for {name} than the one that came with it")
