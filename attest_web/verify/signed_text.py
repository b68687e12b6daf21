"""Checks that a signature is by the address that it names, over the bytes of one request and its response."""

import hashlib
import re
from dataclasses import dataclass

import coincurve
import nacl.exceptions
import nacl.signing

from attest_web.keys import checksum_address, keccak256
from attest_web.printable import printable
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo, eip191_hash
from attest_web.verify.primitives.checks import Check, FailedError, make
from attest_web.verify.primitives.secp256k1 import check_scalars
from attest_web.verify.primitives.untrusted_json import JsonObject, hex_bytes, lower_hex_bytes, parse_object, text

ADDRESS_BYTES: dict[SigningAlgo, int] = {"ecdsa": 20, "ed25519": 32}
"""Size of an address in bytes, by algorithm: an Ethereum address; an Ed25519 public key."""

_WHAT = "the signature response"
_MAX_ERROR = 64 * 1024
"""Largest error that is parsed, in bytes."""

_SIGNED_TEXT = re.compile("(?:(.*):)?([0-9a-f]{64}):([0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True)
class SignedBodies:
    """Request and response body as they were on the wire, after transfer-decoding."""

    request: bytes
    response: bytes


@dataclass(frozen=True)
class SignatureAnswer:
    """The response of `/v1/signature/{id}`, parsed and not yet verified.

    Attributes:
        text: The signed text.
        signature: ECDSA: 65 bytes, r, s and v. Ed25519: 64 bytes.
        address: 20 bytes for ECDSA, 32 for Ed25519.
        algo: The algorithm.
    """

    text: str
    signature: bytes
    address: bytes
    algo: SigningAlgo

    @classmethod
    def parse(cls, data: bytes) -> "SignatureAnswer":
        """Parse a response.

        Raises:
            FailedError: It is malformed.
        """
        answer = parse_object(data, _WHAT)
        algo = signing_algo(answer, _WHAT)
        digits = text(answer, "signature", _WHAT)
        size = 64
        if algo == "ecdsa":
            if not digits.startswith("0x"):
                raise FailedError("an ECDSA signature begins with 0x, and this one does not")
            digits, size = digits[2:], 65
        return cls(
            text=text(answer, "text", _WHAT),
            signature=lower_hex_bytes(digits, f"the {algo} signature", size),
            address=address_bytes(algo, text(answer, "signing_address", _WHAT)),
            algo=algo,
        )


def why_not_signed(status: int, body: bytes, at_most: int) -> str | None:
    """The reason for which an exchange was not signed, from a response of the signature endpoint.

    It is the message of `{"error": {"code": "not_signed", "message": …}}`, which comes with a 404.

    Args:
        status: HTTP status of the response.
        body: Its body.
        at_most: Longest reason, in characters.

    Returns:
        The reason on one line, printable; empty where the error has no text; None where the response says something
        else.
    """
    if status != 404 or len(body) > _MAX_ERROR:
        return None
    try:
        error = parse_object(body, "the error").get("error")
    except FailedError:
        return None
    if not isinstance(error, dict) or error.get("code") != "not_signed":
        return None
    message = error.get("message")
    return printable(message, at_most) if isinstance(message, str) and message.strip() else ""


def signing_algo(source: JsonObject, what: str) -> SigningAlgo:
    """The `signing_algo` of a signature response or a report.

    Raises:
        FailedError: It is not a known algorithm.
    """
    value = text(source, "signing_algo", what)
    for algo in SIGNING_ALGOS:
        if value == algo:
            return algo
    raise FailedError(f"the signing_algo {value!r} of {what} is neither ecdsa nor ed25519")


def address_bytes(algo: SigningAlgo, address: str) -> bytes:
    """The bytes of an address: of an Ethereum address, or of an Ed25519 public key in lower-case hex.

    The case of an Ethereum address is a checksum (EIP-55), which must be right where there are letters of both cases.

    Raises:
        FailedError: It is malformed.
    """
    what, size = f"the {algo} address", ADDRESS_BYTES[algo]
    if algo != "ecdsa":
        return lower_hex_bytes(address, what, size)
    if not address.startswith("0x"):
        raise FailedError("an ECDSA address begins with 0x, and this one does not")
    digits = address[2:]
    value = hex_bytes(digits, what, size)
    if digits not in (digits.lower(), digits.upper()) and address != checksum_address(value):
        raise FailedError(f"{what} has letters of both cases, and they are not its checksum (EIP-55)")
    return value


def shown_address(algo: SigningAlgo, address: bytes) -> str:
    """An address as the wire contract writes it."""
    return checksum_address(address) if algo == "ecdsa" else address.hex()


def signer(answer: SignatureAnswer) -> bytes:
    """The address that has signed the text.

    Raises:
        FailedError: The signature is invalid, or not by the address that the response names.
    """
    message = answer.text.encode()
    if answer.algo == "ed25519":
        try:
            nacl.signing.VerifyKey(answer.address).verify(message, answer.signature)
        except (nacl.exceptions.CryptoError, ValueError):
            raise FailedError(f"it is not a signature of this text by {answer.address.hex()}") from None
        return answer.address
    check_scalars(answer.signature, "the ECDSA signature")
    recovery_id = answer.signature[64] - 27
    if recovery_id not in (0, 1):
        raise FailedError(f"v of the ECDSA signature is {answer.signature[64]}, neither 27 nor 28")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            answer.signature[:64] + bytes([recovery_id]), eip191_hash(message), hasher=None
        )
    except Exception:  # coincurve raises a bare Exception where no key fits
        raise FailedError("no key can have made this ECDSA signature") from None
    address = keccak256(key.format(compressed=False)[1:])[-20:]
    if address != answer.address:
        signed_by, claimed = checksum_address(address), checksum_address(answer.address)
        raise FailedError(f"the signature of this text leads to {signed_by}, not to {claimed}")
    return address


def signed_hashes(signed: str) -> tuple[str, str, str | None]:
    """The hashes of request and response in a signed text, and the model's name where it is in front.

    The name may contain colons and parts that look like hashes. Hashes have a fixed length and no colon, so the text
    is unambiguous when it is parsed from its end.

    Raises:
        FailedError: It has another form.
    """
    found = _SIGNED_TEXT.fullmatch(signed)
    if found is None:
        raise FailedError("the signed text is not of the form sha256(request):sha256(response), in lower-case hex")
    return found[2], found[3], found[1]


def check_signature(name: str, answer: SignatureAnswer, bodies: SignedBodies) -> list[Check]:
    """Check a signature against the bytes that the client sent and received.

    Args:
        name: First word of the names of the checks, usually the algorithm.
        answer: The signature, as the proxy returned it.
        bodies: The client's own bytes.
    """

    def request_hash() -> str:
        signed, _, model = signed_hashes(answer.text)
        detail = _same_hash(signed, bodies.request, "request")
        return detail if model is None else f"{detail}; signed for the model {model!r}"

    def response_hash() -> str:
        return _same_hash(signed_hashes(answer.text)[1], bodies.response, "response")

    def signature() -> str:
        return f"by {shown_address(answer.algo, signer(answer))}"

    return [
        make(f"{name} request hash", request_hash),
        make(f"{name} response hash", response_hash),
        make(f"{name} signature", signature),
    ]


def _same_hash(signed: str, body: bytes, what: str) -> str:
    digest = hashlib.sha256(body).hexdigest()
    if signed != digest:
        raise FailedError(f"the {what} is not what was signed: its SHA-256 is {digest}, the signed one is {signed!r}")
    return f"SHA-256 {digest}, {len(body)} bytes"
