"""The methods of `tappd.sock`, the agent's older interface: quotes and keys by other names."""

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any

from Crypto.Hash import keccak

from scripts.tee_simulator.agent import GuestAgent, JsonObject, Method, Read, dispatch, private_key_pem
from scripts.tee_simulator.arguments import ArgumentError
from scripts.tee_simulator.guest import SimulatedGuest
from scripts.tee_simulator.kms import KEY_SIZE, derive_p256
from scripts.tee_simulator.ra_tls import CertificateRequest
from scripts.tee_simulator.tdx import REPORT_DATA_SIZE

RAW = "raw"
DEFAULT_HASH = "sha512"
DEFAULT_PREFIX = "app-data"


class Tappd:
    """Answers calls on `tappd.sock`. Its methods may be called from any thread."""

    def __init__(self, guest: SimulatedGuest, agent: GuestAgent) -> None:
        self._guest = guest
        self._agent = agent
        self._methods: dict[str, Method] = {
            "DeriveK256Key": self._derive_k256_key,
            "DeriveKey": self._derive_key,
            "Info": agent.info,
            "RawQuote": self._raw_quote,
            "TdxQuote": self._tdx_quote,
        }
        if guest.options.os_version != "0.5":
            self._methods["Version"] = agent.version

    def answer(self, method: str, read: Read) -> JsonObject | None:
        """Answer a call.

        Args:
            method: Its name; `Tappd.` may stand in front.
            read: Reads its arguments.

        Raises:
            RequestError: There is no such method, or it does not take those arguments.
        """
        return dispatch(self._methods, method.removeprefix("Tappd."), read)

    def _derive_k256_key(self, read: Read) -> JsonObject:
        answer = self._agent.get_key(read)
        return {"k256_key": answer["key"], "k256_signature_chain": answer["signature_chain"]}

    def _derive_key(self, read: Read) -> JsonObject:
        arguments = read()
        seed = secrets.token_bytes(KEY_SIZE) if arguments.flag("random_seed") else self._guest.keys.secret
        key = derive_p256(seed, arguments.text("path").encode())
        request = CertificateRequest(
            subject=arguments.text("subject"),
            alt_names=arguments.texts("alt_names"),
            server_auth=arguments.flag("usage_server_auth"),
            client_auth=arguments.flag("usage_client_auth"),
        )
        chain = self._guest.issue(key, request, attested=arguments.flag("usage_ra_tls"))
        return {"key": private_key_pem(key), "certificate_chain": chain}

    def _raw_quote(self, read: Read) -> JsonObject:
        return self._quote(read().binary("report_data"), RAW, "")

    def _tdx_quote(self, read: Read) -> JsonObject:
        arguments = read()
        algorithm = arguments.text("hash_algorithm") or DEFAULT_HASH
        prefix = "" if algorithm == RAW else arguments.text("prefix") or DEFAULT_PREFIX
        return self._quote(arguments.binary("report_data"), algorithm, prefix)

    def _quote(self, said: bytes, algorithm: str, prefix: str) -> JsonObject:
        quote, log = self._guest.quote(report_data(said, algorithm, prefix))
        shown = json.dumps([event.as_json() for event in log], separators=(",", ":"), ensure_ascii=False)
        return {"quote": quote.hex(), "event_log": shown, "hash_algorithm": algorithm, "prefix": prefix}


def report_data(said: bytes, algorithm: str, prefix: str) -> bytes:
    """What a quote says of what an app wants to have said: 64 bytes.

    Args:
        said: What the app wants to have said.
        algorithm: How it is hashed, padded with zeros; `raw` takes 64 bytes as they are.
        prefix: What is hashed in front of it, with a colon between.

    Raises:
        ArgumentError: There is no such algorithm, or raw bytes have another length.
    """
    if algorithm == RAW:
        if len(said) != REPORT_DATA_SIZE:
            raise ArgumentError("invalid content length")
        return said
    hashers: dict[str, Callable[[bytes], Any]] = {
        **{name: getattr(hashlib, name) for name in ("sha256", "sha384", "sha512")},
        **{f"sha3-{bits}": getattr(hashlib, f"sha3_{bits}") for bits in (256, 384, 512)},
        **{f"keccak{bits}": _keccak(bits) for bits in (256, 384, 512)},
    }
    if algorithm not in hashers:
        raise ArgumentError("invalid hash algorithm")
    digest: bytes = hashers[algorithm](prefix.encode() + b":" + said).digest()
    return digest.ljust(REPORT_DATA_SIZE, b"\0")


def _keccak(bits: int) -> Callable[[bytes], Any]:
    return lambda content: keccak.new(digest_bits=bits, data=content)
