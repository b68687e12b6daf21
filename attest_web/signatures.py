"""Signs requests and responses: one text for each pair, and two signatures over it.

    text = [model ":"] sha256hex(request body) ":" sha256hex(response body)

ECDSA signs keccak256 of the text's EIP-191 form, deterministically (RFC 6979) and with low s; Ed25519 (RFC 8032) signs
the text itself.

A model's name may contain a `:`, so the text is parsed from its end: the last two parts are the hashes, 64 hex digits
each, and the part before them is the name. Parsed so, the text is unambiguous for any name.
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
    """The record of a response that is not signed.

    Attributes:
        reason: Why it is not signed: one of this proxy's own sentences, which quotes no client and no upstream.
    """

    reason: str


def signature_answer(signed: SignedExchange, algo: SigningAlgo) -> dict[str, str]:
    """The response of `/v1/signature/{id}` for one algorithm."""
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
    """The text to sign for a request and its response.

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
