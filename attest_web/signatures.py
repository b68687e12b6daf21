"""What is signed and how: one text for each exchange, two signatures over it.

    text = [model ":"] sha256hex(request body) ":" sha256hex(response body)

ECDSA signs keccak256 of the text's EIP-191 form, deterministically (RFC 6979) and with low s; Ed25519 (RFC 8032) signs
the text itself.

A model's name may have a `:` in it, and the text is to be read from its end: the last two parts are the hashes, 64 hex
digits each, and all before the colon in front of them is the name. So it has one reading, whatever the name is; cut at
its first colon it has not.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from attest_web.keys import SigningKeys, keccak256

SigningAlgo = Literal["ecdsa", "ed25519"]
SIGNING_ALGOS: tuple[SigningAlgo, ...] = get_args(SigningAlgo)


class SignedExchange(TypedDict):
    """A signed text with both signatures: what the store keeps, by the names of the wire contract."""

    text: str
    signature_ecdsa: str
    signing_address_ecdsa: str
    signature_ed25519: str
    signing_address_ed25519: str


@dataclass(frozen=True, slots=True)
class NotSigned:
    """What is kept of an exchange that has no signature.

    Attributes:
        reason: Why it has none: a sentence of this proxy's own, in which nothing is of a client's or an upstream's.
    """

    reason: str


def signature_answer(signed: SignedExchange, algo: SigningAlgo) -> dict[str, str]:
    """What `/v1/signature/{id}` answers, for one algorithm."""
    ecdsa = algo == "ecdsa"
    return {
        "text": signed["text"],
        "signature": signed["signature_ecdsa" if ecdsa else "signature_ed25519"],
        "signing_address": signed["signing_address_ecdsa" if ecdsa else "signing_address_ed25519"],
        "signing_algo": algo,
    }


def eip191_hash(text: bytes) -> bytes:
    """The 32-byte hash that an Ethereum personal signature is made over (EIP-191, version `E`)."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%s" % (len(text), text))


def signed_text(request_sha256: str, response_sha256: str, model: str | None = None) -> str:
    """The text of an exchange.

    Args:
        request_sha256: SHA-256 of the request body as the client sent it, 64 lower-case hex digits.
        response_sha256: The same of the response body as the client gets it.
        model: Put in front when given (`SIGNED_TEXT_FORMAT=model`).
    """
    text = f"{request_sha256}:{response_sha256}"
    return f"{model}:{text}" if model is not None else text


def sign_text(keys: SigningKeys, text: str) -> SignedExchange:
    """Sign a text with both keys."""
    message = text.encode()
    signature = keys.ecdsa.sign_recoverable(eip191_hash(message), hasher=None)
    # coincurve gives the recovery id, 0 or 1; Ethereum counts it from 27.
    ecdsa = signature[:64] + bytes([signature[64] + 27])
    return {
        "text": text,
        "signature_ecdsa": "0x" + ecdsa.hex(),
        "signing_address_ecdsa": keys.ecdsa_address,
        "signature_ed25519": keys.ed25519.sign(message).signature.hex(),
        "signing_address_ed25519": keys.ed25519_address,
    }
