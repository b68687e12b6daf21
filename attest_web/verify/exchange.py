"""The signed exchange: that a signature is by the address that it names, over these bytes of request and answer."""

import hashlib
from dataclasses import dataclass

import coincurve
import nacl.exceptions
import nacl.signing

from attest_web.keys import checksum_address, keccak256
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo, eip191_hash
from attest_web.verify.checks import Check, FailedError, make
from attest_web.verify.untrusted_json import JsonObject, hex_bytes, parse_object, text

ADDRESS_BYTES: dict[SigningAlgo, int] = {"ecdsa": 20, "ed25519": 32}
"""Size of an address by algorithm: an Ethereum address; an Ed25519 public key."""

_WHAT = "the signature answer"


@dataclass(frozen=True)
class Exchange:
    """Request and response body as they were on the wire, after transfer-decoding."""

    request: bytes
    response: bytes


@dataclass(frozen=True)
class SignatureAnswer:
    """What `/v1/signature/{id}` answers, with its fields read but not yet believed.

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
        """Read an answer.

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
            signature=hex_bytes(digits, f"the {algo} signature", size),
            address=address_bytes(algo, text(answer, "signing_address", _WHAT)),
            algo=algo,
        )


def signing_algo(source: JsonObject, what: str) -> SigningAlgo:
    """The `signing_algo` of an answer or a report.

    Raises:
        FailedError: It is none that there is.
    """
    value = text(source, "signing_algo", what)
    for algo in SIGNING_ALGOS:
        if value == algo:
            return algo
    raise FailedError(f"the signing_algo {value!r} of {what} is neither ecdsa nor ed25519")


def address_bytes(algo: SigningAlgo, address: str) -> bytes:
    """The bytes of an address: of an Ethereum address (EIP-55, in any case), or of an Ed25519 public key.

    Raises:
        FailedError: It is malformed.
    """
    if algo == "ecdsa":
        if not address.startswith("0x"):
            raise FailedError("an ECDSA address begins with 0x, and this one does not")
        address = address[2:]
    return hex_bytes(address, f"the {algo} address", ADDRESS_BYTES[algo])


def shown_address(algo: SigningAlgo, address: bytes) -> str:
    """An address as the wire contract writes it."""
    return checksum_address(address) if algo == "ecdsa" else address.hex()


def signer(answer: SignatureAnswer) -> bytes:
    """The address that has really signed the text.

    Raises:
        FailedError: The signature is none, or not by the address that the answer names.
    """
    message = answer.text.encode()
    if answer.algo == "ed25519":
        try:
            nacl.signing.VerifyKey(answer.address).verify(message, answer.signature)
        except (nacl.exceptions.CryptoError, ValueError):
            raise FailedError(f"it is not one of this text by {answer.address.hex()}") from None
        return answer.address
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
        raise FailedError(f"this text was signed by {signed_by}, if by anybody, not by {claimed}")
    return address


def signed_hashes(signed: str) -> tuple[str, str, str | None]:
    """The hashes of request and response in a signed text, and the model's name where it is in front.

    The name may have colons of its own, so the text is read from its end.

    Raises:
        FailedError: It has another form.
    """
    parts = signed.rsplit(":", 2)
    if len(parts) < 2:
        raise FailedError("the signed text is not of the form sha256(request):sha256(response)")
    return parts[-2], parts[-1], parts[0] if len(parts) == 3 else None


def check_signature(name: str, answer: SignatureAnswer, exchange: Exchange) -> list[Check]:
    """Check a signature against the bytes that the client sent and got.

    Args:
        name: First word of the names of the checks, usually the algorithm.
        answer: What the proxy says is the signature.
        exchange: The client's own bytes.
    """

    def request_hash() -> str:
        signed, _, model = signed_hashes(answer.text)
        detail = _same_hash(signed, exchange.request, "request")
        return detail if model is None else f"{detail}; signed for the model {model!r}"

    def response_hash() -> str:
        return _same_hash(signed_hashes(answer.text)[1], exchange.response, "response")

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
        raise FailedError(f"the {what} is not what was signed: its SHA-256 is {digest}, the signed one {signed!r}")
    return f"SHA-256 {digest}, {len(body)} bytes"
