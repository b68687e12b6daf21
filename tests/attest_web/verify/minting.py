"""Evidence that holds, made from the vectors' keys, for tests to bend. Its quotes have true shapes and no signature."""

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from attest_web.keys import SigningKeys
from attest_web.report_data import report_data
from attest_web.signatures import SigningAlgo, sign_text, signed_text
from attest_web.verify.checks import FailedError
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.evidence import Evidence, Saying
from attest_web.verify.exchange import Exchange
from attest_web.verify.gpu import CANNED_NONCE

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
NONCE = bytes.fromhex(VECTORS["nonce"])
SPKI = bytes.fromhex(VECTORS["spki_sha256"])
KEYS = SigningKeys.from_secrets(bytes.fromhex(VECTORS["ecdsa_secret"]), bytes.fromhex(VECTORS["ed25519_seed"]))
OTHER_KEYS = SigningKeys.from_secrets(b"\1" * 32, b"\2" * 32)
REQUEST = VECTORS["request_body"].encode()
RESPONSE = VECTORS["response_body"].encode()
MRTD = b"\xaa" * 48
APP_COMPOSE = '{"name":"demo","docker_compose_file":"services: {}\\n"}'
COMPOSE_HASH = hashlib.sha256(APP_COMPOSE.encode()).digest()

ALGOS: tuple[SigningAlgo, SigningAlgo] = ("ecdsa", "ed25519")


def address(keys: SigningKeys, algo: SigningAlgo) -> bytes:
    return bytes.fromhex(keys.ecdsa_address[2:]) if algo == "ecdsa" else keys.ed25519_public_key


def runtime_event(name: str, payload: bytes) -> dict[str, Any]:
    # Spelled out, and not by the code under test: type 0x08000001, little-endian.
    digest = hashlib.sha384(b"\x01\x00\x00\x08:" + name.encode() + b":" + payload).hexdigest()
    return {"imr": 3, "event_type": 134217729, "digest": digest, "event": name, "event_payload": payload.hex()}


def boot_event(register: int, digest: bytes) -> dict[str, Any]:
    return {"imr": register, "event_type": 1, "digest": digest.hex(), "event": "", "event_payload": ""}


def event_log(*, compose_hash: bytes = COMPOSE_HASH) -> list[dict[str, Any]]:
    return [
        boot_event(0, hashlib.sha384(b"firmware").digest()),
        boot_event(1, hashlib.sha384(b"kernel").digest()),
        boot_event(2, b"\x33" * 32),  # shorter than a register
        runtime_event("app-id", b"\x01\x02"),
        runtime_event("compose-hash", compose_hash),
        runtime_event("system-ready", b""),
    ]


def registers(events: list[dict[str, Any]]) -> list[bytes]:
    values = [b"\0" * 48] * 4
    for event in events:
        digest = bytes.fromhex(event["digest"]).ljust(48, b"\0")
        values[event["imr"]] = hashlib.sha384(values[event["imr"]] + digest).digest()
    return values


def quote(data: bytes, rtmrs: list[bytes], attributes: bytes = b"\0\0\0\x10\0\0\0\0", mrtd: bytes = MRTD) -> bytes:
    header = struct.pack("<HHI", 4, 2, 0x81) + b"\0" * 40
    body = b"\x11" * 16 + b"\x12" * 48 + b"\x13" * 48 + b"\0" * 8 + attributes + b"\x15" * 8
    body += mrtd + b"\x17" * 48 + b"\x18" * 48 + b"\x19" * 48 + b"".join(rtmrs) + data
    assert len(header) == 48
    assert len(body) == 584
    return header + body + struct.pack("<I", 4) + b"sign"


def gpu_payload(nonce: bytes = NONCE, evidence_nonce: bytes | None = None, gpus: int = 2) -> str:
    message = b"\x11\xe0\x01\xff" + (nonce if evidence_nonce is None else evidence_nonce) + b"\0" + b"\x11\x60" * 40
    evidence = {"certificate": "Y2VydA==", "evidence": base64.b64encode(message).decode(), "arch": "HOPPER"}
    return json.dumps({"nonce": nonce.hex(), "evidence_list": [evidence] * gpus, "arch": "HOPPER"})


def report(
    algo: SigningAlgo = "ecdsa",
    *,
    keys: SigningKeys = KEYS,
    nonce: bytes = NONCE,
    spki: bytes | None = None,
    attributes: bytes = b"\0\0\0\x10\0\0\0\0",
    canned_gpu: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """A report as the proxy gives it. `more` replaces members, and takes away those that are None."""
    events = event_log()
    public_key = keys.ecdsa_public_key if algo == "ecdsa" else keys.ed25519_public_key
    made: dict[str, Any] = {
        "model_name": "demo",
        "signing_address": keys.ecdsa_address if algo == "ecdsa" else keys.ed25519_address,
        "signing_algo": algo,
        "signing_public_key": public_key.hex(),
        "request_nonce": nonce.hex(),
        "intel_quote": quote(report_data(address(keys, algo), nonce, spki), registers(events), attributes).hex(),
        "nvidia_payload": gpu_payload(nonce, CANNED_NONCE if canned_gpu else None),
        "event_log": events,
        "info": {"app_name": "demo", "tcb_info": {"app_compose": APP_COMPOSE, "mrtd": MRTD.hex()}},
        "tls_cert_fingerprint": spki.hex() if spki is not None else None,
    } | more
    return {name: value for name, value in made.items() if value is not None}


def signature(algo: SigningAlgo = "ecdsa", keys: SigningKeys = KEYS, model: str | None = None) -> dict[str, str]:
    hashes = hashlib.sha256(REQUEST).hexdigest(), hashlib.sha256(RESPONSE).hexdigest()
    signed = sign_text(keys, signed_text(*hashes, model))
    is_ecdsa = algo == "ecdsa"
    return {
        "text": signed["text"],
        "signature": signed["signature_ecdsa"] if is_ecdsa else signed["signature_ed25519"],
        "signing_address": signed["signing_address_ecdsa"] if is_ecdsa else signed["signing_address_ed25519"],
        "signing_algo": algo,
    }


def evidence(*reports: dict[str, Any], **more: Any) -> Evidence:
    """The vectors' exchange with both signatures and these reports, or with those that hold."""
    made: dict[str, Any] = {
        "exchange": Exchange(REQUEST, RESPONSE),
        "signatures": [Saying(json.dumps(signature(algo)).encode(), algo) for algo in ALGOS],
        "reports": [Saying(json.dumps(each).encode()) for each in (reports or (report("ecdsa"), report("ed25519")))],
        "nonce": NONCE,
    }
    return Evidence(**(made | more))


class QuoteBook:
    """Stands in for dcap-qvl: it vouches for the quotes that it is given beforehand, and for no others."""

    def __init__(self, *reports: dict[str, Any], verdict: QuoteVerdict | None = None) -> None:
        self._known = {bytes.fromhex(each["intel_quote"]) for each in reports}
        self._verdict = verdict or QuoteVerdict("UpToDate")

    def __call__(self, quote: bytes) -> QuoteVerdict:
        if quote not in self._known:
            raise FailedError("the signature does not hold")
        return self._verdict
