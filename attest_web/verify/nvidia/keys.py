"""The keys that NVIDIA's attestation service (NRAS) signs with: a JSON Web Key Set (RFC 7517), and how to fetch it.

The service makes a new key about every day, each with a certificate that is valid for two days, and publishes the
latest keys. So a key set is usable for hours, not for weeks.
"""

import base64
import datetime
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.x509 import load_der_x509_certificate

from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.http_client import FetchError, HttpClient, Origin
from attest_web.verify.primitives.untrusted_json import JsonObject, as_object, base64_bytes, items, parse_object, text

JWKS_PATH = "/.well-known/jwks.json"
MAX_JWKS = 1024 * 1024
"""Largest key set, in bytes. NVIDIA's has 80 kB."""
MAX_KEYS = 256
MAX_AGE = 3600.0
"""Seconds that a fetched key set is used, so that a key that NVIDIA withdraws is not trusted for long."""

_COORDINATE = re.compile(r"[A-Za-z0-9_-]{64}")
_KEY_ID = re.compile(r"[ -~]{1,256}")

Validity = tuple[datetime.datetime, datetime.datetime]
"""The first and the last moment at which a certificate is valid, both inclusive."""


@dataclass(frozen=True)
class NvidiaKeys:
    """NVIDIA's key set.

    Attributes:
        by_id: Public keys on P-384, by their `kid`.
        validity: When the certificate of a key is valid, for the keys that have one.
        jwks: The key set itself, as it was published.
    """

    by_id: Mapping[str, EllipticCurvePublicKey]
    validity: Mapping[str, Validity] = field(default_factory=dict)
    jwks: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def parse(cls, jwks: bytes | str) -> "NvidiaKeys":
        """Parse a JSON Web Key Set.

        Keys for other algorithms than ES384, and keys without a `kid`, are ignored (RFC 7517, 5). If a key has a
        certificate (`x5c`), it must be for the same key.

        Raises:
            FailedError: It is malformed, has two keys with one `kid`, or no usable key.
        """
        if len(jwks) > MAX_JWKS:
            raise FailedError(f"the key set is longer than {MAX_JWKS} bytes")
        listed = items(parse_object(jwks, "the key set"), "keys", "the key set")
        if len(listed) > MAX_KEYS:
            raise FailedError(f"the key set has {len(listed)} keys, more than {MAX_KEYS}")
        keys = [as_object(key, "a key of the key set") for key in listed]
        named = [key for key in keys if key.get("kid") is not None]
        repeated = [kid for kid, count in Counter(_key_id(key) for key in named).items() if count > 1]
        if repeated:
            raise FailedError(f"the key set has more than one key {repeated[0]!r}")
        usable = [key for key in named if _is_for_es384(key)]
        if not usable:
            raise FailedError("the key set has no key for ES384")
        by_id: dict[str, EllipticCurvePublicKey] = {}
        validity: dict[str, Validity] = {}
        for key in usable:
            key_id = _key_id(key)
            by_id[key_id] = public_key = _public_key(key)
            if "x5c" in key:
                certified, validity[key_id] = _certified(key, f"the key {key_id}")
                if certified != public_key:
                    raise FailedError(f"the certificate of the key {key_id} is for another key")
        return cls(by_id, validity, jwks if isinstance(jwks, bytes) else jwks.encode())

    def has(self, key_ids: Iterable[str]) -> bool:
        """Whether all of these keys are in it."""
        return all(key_id in self.by_id for key_id in key_ids)


class NvidiaKeysFetcher:
    """Fetches NVIDIA's keys and caches them for `MAX_AGE`. Thread-safe."""

    def __init__(self, client: HttpClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare to fetch; nothing is sent yet.

        Args:
            client: The client of the service; only scheme, host and port of its origin are used, see `jwks_origin`.
            clock: Monotonic seconds.
        """
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, NvidiaKeys] | None = None

    def __call__(self, key_ids: Iterable[str] = ()) -> NvidiaKeys:
        """The keys that NVIDIA publishes.

        Args:
            key_ids: Required keys. If the cached key set lacks one of them, the set is fetched again; the new set may
                lack it as well.

        Raises:
            NotMadeError: The key set could not be fetched.
        """
        with self._lock:
            if self._kept is not None:
                fetched_at, keys = self._kept
                if self._clock() - fetched_at < MAX_AGE and keys.has(key_ids):
                    return keys
            keys = self._fetch()
            self._kept = self._clock(), keys
            return keys

    def _fetch(self) -> NvidiaKeys:
        try:
            answer = self._client.request("GET", "")
        except FetchError as error:
            raise NotMadeError(f"NVIDIA's keys could not be fetched: {error}") from None
        if answer.status != 200:
            raise NotMadeError(f"NVIDIA's keys could not be fetched: the service answered {answer.status}")
        try:
            return NvidiaKeys.parse(answer.body)
        except FailedError as error:
            raise NotMadeError(f"NVIDIA's keys could not be fetched: {error}") from None


def jwks_origin(service: Origin) -> Origin:
    """The address of a service's keys: a path of their own on the same host."""
    return Origin(service.tls, service.host, service.port, JWKS_PATH)


def _is_for_es384(key: JsonObject) -> bool:
    return (
        (key.get("kty"), key.get("crv")) == ("EC", "P-384")
        and key.get("alg", "ES384") == "ES384"
        and key.get("use", "sig") == "sig"
    )


def _key_id(key: JsonObject) -> str:
    key_id = text(key, "kid", "a key of the key set")
    if not _KEY_ID.fullmatch(key_id):
        raise FailedError("'kid' of a key of the key set is not 1 to 256 printable ASCII characters")
    return key_id


def _public_key(key: JsonObject) -> EllipticCurvePublicKey:
    what = f"the key {_key_id(key)}"
    numbers = EllipticCurvePublicNumbers(_coordinate(key, "x", what), _coordinate(key, "y", what), SECP384R1())
    try:
        return numbers.public_key()
    except ValueError:
        raise FailedError(f"{what} is not a point on P-384") from None


def _coordinate(key: JsonObject, name: str, what: str) -> int:
    digits = text(key, name, what)
    if not _COORDINATE.fullmatch(digits):
        raise FailedError(f"{name!r} of {what} is not 48 bytes in base64url")
    return int.from_bytes(base64.urlsafe_b64decode(digits))


def _certified(key: JsonObject, what: str) -> tuple[object, Validity]:
    """The public key of the key's certificate, and when the certificate is valid."""
    chain = items(key, "x5c", what)
    if not (chain and isinstance(chain[0], str)):
        raise FailedError(f"'x5c' of {what} has no certificate")
    der = base64_bytes(chain[0], f"the certificate of {what}")
    try:
        certificate = load_der_x509_certificate(der)
        return certificate.public_key(), (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except Exception:  # the parser raises many types of exception
        raise FailedError(f"the certificate of {what} cannot be read") from None
