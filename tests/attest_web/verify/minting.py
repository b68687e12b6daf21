"""Evidence that holds, made from the vectors' keys, for tests to bend. Its quotes have true shapes and no signature.

The guest is one of dstack 0.6 under a KMS: MRTD, RTMR0 to RTMR2, their events and `vm_config` are those of a real one,
its boot log has the events of the real boot order, and the log has the form in which `GetQuote` gives it.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import coincurve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_utils.crypto import keccak

from attest_web.attestation.report_data import report_data
from attest_web.keys import SigningKeys
from attest_web.signatures import SigningAlgo, sign_text, signed_text
from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.nvidia.evidence import CANNED_NONCE
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.signed_text import SignedBodies

BootLog = list[tuple[str, bytes]]
"""Names and payloads of the events of RTMR3."""

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
DSTACK_VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "dstack-vectors.json").read_text())
NONCE = bytes.fromhex(VECTORS["nonce"])
SPKI = bytes.fromhex(VECTORS["spki_sha256"])
KEYS = SigningKeys.from_secrets(bytes.fromhex(VECTORS["ecdsa_secret"]), bytes.fromhex(VECTORS["ed25519_seed"]))
OTHER_KEYS = SigningKeys.from_secrets(b"\1" * 32, b"\2" * 32)
REQUEST = VECTORS["request_body"].encode()
RESPONSE = VECTORS["response_body"].encode()

_REAL_GUEST: dict[str, Any] = DSTACK_VECTORS["real_quotes"]["tdx-lite-getquote.json"]
MRTD = bytes.fromhex(_REAL_GUEST["mrtd"])
FIRMWARE_EVENTS: list[dict[str, Any]] = [
    event for event in json.loads(_REAL_GUEST["response"]["event_log"]) if event["imr"] < 3
]
VM_CONFIG: str = _REAL_GUEST["response"]["vm_config"]
OS_IMAGE_HASH = bytes.fromhex(json.loads(VM_CONFIG)["os_image_hash"])


def provider_id(secret: int) -> bytes:
    """Id of a KMS: a P-256 key, as SubjectPublicKeyInfo in DER, 91 bytes."""
    key = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_provider(kind: str, provider: bytes = b"") -> bytes:
    return b'{"name":"%s","id":"%s"}' % (kind.encode(), provider.hex().encode())


KMS_ID = provider_id(7)
OTHER_KMS_ID = provider_id(8)
KMS_ROOT = coincurve.PrivateKey(b"\7" * 32)
APP_KEY = coincurve.PrivateKey(b"\5" * 32)
APP_COMPOSE = json.dumps(
    {"manifest_version": 2, "name": "demo", "docker_compose_file": "services: {}\n", "key_provider_id": KMS_ID.hex()}
)
COMPOSE_HASH = hashlib.sha256(APP_COMPOSE.encode()).digest()
APP_ID = COMPOSE_HASH[:20]
INSTANCE_ID = b"\x69" * 20
GPU_POLICY_HASH = hashlib.sha256(b"{}").digest()

ALGOS: tuple[SigningAlgo, SigningAlgo] = ("ecdsa", "ed25519")


def address(keys: SigningKeys, algo: SigningAlgo) -> bytes:
    return bytes.fromhex(keys.ecdsa_address[2:]) if algo == "ecdsa" else keys.ed25519_public_key


def boot_log(**bent: bytes | None) -> BootLog:
    """The boot of a guest that holds. `bent` replaces payloads by name, and takes away those that are None."""
    payloads: dict[str, bytes | None] = {
        "system-preparing": b"",
        "app-id": APP_ID,
        "compose-hash": COMPOSE_HASH,
        "gpu-policy-hash": GPU_POLICY_HASH,
        "gpu-attestation": None,
        "instance-id": INSTANCE_ID,
        "boot-mr-done": b"",
        "os-image-hash": OS_IMAGE_HASH,
        "key-provider": key_provider("kms", KMS_ID),
        "storage-fs": b"zfs",
        "system-ready": b"",
    }
    payloads |= {name.replace("_", "-"): payload for name, payload in bent.items()}
    return [(name, payload) for name, payload in payloads.items() if payload is not None]


def runtime_digest(name: str, payload: bytes, version: int = 1) -> bytes:
    # Spelled out, and not by the code under test: type 0x08000001, little-endian.
    if version == 1:
        return hashlib.sha384(b"\x01\x00\x00\x08:" + name.encode() + b":" + payload).digest()
    quoted = json.dumps(name, ensure_ascii=False)
    preimage = f'{{"name":{quoted},"payload":"{payload.hex()}","type":134217729}}'
    return hashlib.sha384(preimage.encode()).digest()


def runtime_event(name: str, payload: bytes, version: int = 1) -> dict[str, Any]:
    """An event of RTMR3 as `GetQuote` gives it, without its digest."""
    event = {"imr": 3, "event_type": 134217729, "digest": "", "event": name, "event_payload": payload.hex()}
    return event if version == 1 else event | {"version": version}


def with_digest(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event of RTMR3 as `Info` and dstack up to 0.5.5 give it."""
    digest = runtime_digest(event["event"], bytes.fromhex(event["event_payload"]), event.get("version", 1))
    return {**event, "digest": digest.hex()}


def runtime_log(boot: Iterable[tuple[str, bytes]], version: int = 1) -> list[dict[str, Any]]:
    return [runtime_event(name, payload, version) for name, payload in boot]


def event_log(boot: Iterable[tuple[str, bytes]] | None = None, version: int = 1) -> list[dict[str, Any]]:
    """The whole log of a guest with this boot, or with the one that holds."""
    return [*map(dict, FIRMWARE_EVENTS), *runtime_log(boot_log() if boot is None else boot, version)]


def registers(events: Iterable[Mapping[str, Any]]) -> list[bytes]:
    values = [b"\0" * 48] * 4
    for event in events:
        digest = with_digest(event)["digest"] if event["imr"] == 3 else event["digest"]
        values[event["imr"]] = hashlib.sha384(values[event["imr"]] + bytes.fromhex(digest).ljust(48, b"\0")).digest()
    return values


def quote(
    data: bytes,
    rtmrs: Sequence[bytes],
    attributes: bytes = b"\0\0\0\x10\0\0\0\0",
    mrtd: bytes = MRTD,
    *,
    mr_config_id: bytes = bytes(48),
    mr_owner: bytes = bytes(48),
    mr_owner_config: bytes = bytes(48),
) -> bytes:
    """A quote of version 4."""
    header = struct.pack("<HHI", 4, 2, 0x81) + b"\0" * 40
    body = b"\x11" * 16 + b"\x12" * 48 + b"\x13" * 48 + b"\0" * 8 + attributes + b"\x15" * 8
    body += mrtd + mr_config_id + mr_owner + mr_owner_config + b"".join(rtmrs) + data
    assert len(header) == 48
    assert len(body) == 584
    return header + body + struct.pack("<I", 4) + b"sign"


def as_version_5(version_4: bytes, service_td: bytes | None = None) -> bytes:
    """The same quote in version 5: with a body of TDX 1.0, or of TDX 1.5 where a service TD is given, 48 bytes."""
    more = b"" if service_td is None else b"\x16" * 16 + service_td
    descriptor = struct.pack("<HI", 2 if service_td is None else 3, 584 + len(more))
    return b"\5" + version_4[1:48] + descriptor + version_4[48:632] + more + version_4[632:]


def signature_chain(
    algo: SigningAlgo,
    *,
    keys: SigningKeys = KEYS,
    purpose: str = "signing",
    app_key: coincurve.PrivateKey = APP_KEY,
    app_id: bytes = APP_ID,
    root: coincurve.PrivateKey = KMS_ROOT,
) -> list[str]:
    """The chain of a key that a KMS has given, as `GetKey` answers with it."""
    public_key = keys.ecdsa.public_key.format() if algo == "ecdsa" else keys.ed25519_public_key
    issued = b"dstack-kms-issued:" + app_id + app_key.public_key.format()
    return [
        app_key.sign_recoverable(f"{purpose}:{public_key.hex()}".encode(), hasher=keccak).hex(),
        root.sign_recoverable(issued, hasher=keccak).hex(),
    ]


def gpu_payload(nonce: bytes = NONCE, evidence_nonce: bytes | None = None, gpus: int = 2) -> str:
    request = b"\x11\xe0\x01\xff" + (nonce if evidence_nonce is None else evidence_nonce) + b"\0"
    evidence = [
        {
            "certificate": base64.b64encode(b"certificate of GPU %d" % gpu).decode(),
            "evidence": base64.b64encode(request + b"\x11\x60" * 40 + bytes([gpu])).decode(),
            "arch": "HOPPER",
        }
        for gpu in range(gpus)
    ]
    return json.dumps({"nonce": nonce.hex(), "evidence_list": evidence, "arch": "HOPPER"})


def report(
    algo: SigningAlgo = "ecdsa",
    *,
    keys: SigningKeys = KEYS,
    nonce: bytes = NONCE,
    spki: bytes | None = None,
    events: Sequence[Mapping[str, Any]] | None = None,
    canned_gpu: bool = False,
    quoted: Mapping[str, bytes] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A report as the proxy gives it.

    Args:
        algo: The algorithm of the key that it is about.
        keys: The keys.
        nonce: What it is made with.
        spki: SHA-256 of the SPKI of the TLS certificate that it is about, if any.
        events: What has happened, and so is in the registers; it is shown as well, unless `more` has another log.
        canned_gpu: Whether the GPU evidence is NVIDIA's canned one.
        quoted: Fields of the quote that are to be others, as `quote` names them.
        more: Members that are replaced, or taken away where they are None.
    """
    events = event_log() if events is None else events
    public_key = keys.ecdsa_public_key if algo == "ecdsa" else keys.ed25519_public_key
    data = report_data(address(keys, algo), nonce, spki)
    made: dict[str, Any] = {
        "model_name": "demo",
        "signing_address": keys.ecdsa_address if algo == "ecdsa" else keys.ed25519_address,
        "signing_algo": algo,
        "signing_public_key": public_key.hex(),
        "request_nonce": nonce.hex(),
        "intel_quote": quote(data, registers(events), **(quoted or {})).hex(),
        "nvidia_payload": gpu_payload(nonce, CANNED_NONCE if canned_gpu else None),
        "event_log": list(events),
        "info": {"app_name": "demo", "tcb_info": {"app_compose": APP_COMPOSE, "mrtd": MRTD.hex()}},
        "app_id": APP_ID.hex(),
        "vm_config": VM_CONFIG,
        "signature_chain": signature_chain(algo, keys=keys),
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
        "bodies": SignedBodies(REQUEST, RESPONSE),
        "signatures": [Statement(json.dumps(signature(algo)).encode(), algo) for algo in ALGOS],
        "reports": [Statement(json.dumps(each).encode()) for each in (reports or (report("ecdsa"), report("ed25519")))],
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
