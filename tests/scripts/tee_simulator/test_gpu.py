"""What `GpuInfo` gives, against the record of a guest with a real H100."""

import base64
import hashlib
import json
from typing import Any

from scripts.tee_simulator.gpu import gpu_attestation, gpu_attestation_event

SEED = bytes(32)
OWN = ("ueid", "eat_nonce", "exp", "iat", "jti", "submods")
"""Claims of which every GPU, or every attestation, has its own."""


def decoded(token: str) -> dict[str, Any]:
    header, claims, signature = token.split(".")
    assert (json.loads(base64.urlsafe_b64decode(header + "==")), signature) == ({"alg": "none"}, "")
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return parsed


def shape(claims: dict[str, Any]) -> dict[str, Any]:
    """Claims with their values, of its own only the type; of certificates only which claims there are."""
    return {
        name: type(value) if name in OWN else list(value) if name.endswith("cert-chain") else value
        for name, value in claims.items()
    }


def test_gpu_info_has_the_shape_of_a_real_one(dstack_vectors: dict[str, Any]) -> None:
    text = dstack_vectors["gpu"]["gpu_info_attestation"]
    real, ours = json.loads(text), json.loads(gpu_attestation(SEED, 1))
    assert text == json.dumps(real, indent=2) + "\n", "or ours would be laid out in another way"
    assert list(ours) == list(real)
    assert (ours["result_code"], ours["result_message"]) == (real["result_code"], real["result_message"])
    assert [list(shape(gpu).items()) for gpu in ours["claims"]] == [list(shape(gpu).items()) for gpu in real["claims"]]


def test_gpu_tokens_have_the_shape_of_real_ones(dstack_vectors: dict[str, Any]) -> None:
    real, ours = (
        json.loads(text)["detached_eat"]
        for text in (dstack_vectors["gpu"]["gpu_info_attestation"], gpu_attestation(SEED, 1))
    )
    assert (ours[0][0], list(ours[1])) == (real[0][0], list(real[1]))
    assert shape(decoded(ours[0][1])) == shape(decoded(real[0][1]))
    assert shape(decoded(ours[1]["GPU-0"])) == shape(decoded(real[1]["GPU-0"]))
    digest = hashlib.sha256(ours[1]["GPU-0"].encode()).hexdigest()
    assert decoded(ours[0][1])["submods"] == {"GPU-0": ["DIGEST", ["SHA256", digest]]}


def test_gpu_ids_are_unique_and_derived_from_the_seed() -> None:
    claims = json.loads(gpu_attestation(SEED, 8))["claims"]
    assert len({gpu["ueid"] for gpu in claims}) == 8
    assert all(gpu["ueid"].isdecimal() for gpu in claims)
    assert gpu_attestation(SEED, 8) == gpu_attestation(SEED, 8)
    assert gpu_attestation(SEED, 1) != gpu_attestation(b"\1" * 32, 1)


def test_gpu_attestation_event_matches_the_vectors(dstack_vectors: dict[str, Any]) -> None:
    known = dstack_vectors["gpu"]
    event = gpu_attestation_event(known["gpu_info_attestation"], 1)
    assert event.decode() == known["gpu_attestation_event_payload_utf8"]


def test_gpu_info_without_gpus_is_empty() -> None:
    assert gpu_attestation(SEED, 0) == ""
