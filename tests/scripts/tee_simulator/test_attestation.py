"""Encoded attestations, against those in the certificates of dstack's own agent."""

import json
from typing import Any

import msgpack
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from attest_web.verify.dstack import attestation as verifier
from scripts.tee_simulator.attestation import Attestation, scale_length
from scripts.tee_simulator.event_log import Log, of_certificate, runtime_event, with_preimages
from scripts.tee_simulator.ra_tls import ATTESTATION


def encoded_again(encoded: bytes, log: Log, config: str) -> bytes:
    """An attestation with another's quote and report data, from the log that it is of."""
    read = verifier.Attestation.parse(encoded)
    runtime = tuple(event for event in log if event.is_runtime)
    return Attestation(read.quote, of_certificate(log), runtime, read.report_data, config).encoded()


def test_attestation_version_1_encoding_matches_the_real_agents(dstack_vectors: dict[str, Any], real_log: Log) -> None:
    agent = dstack_vectors["real_agent"]
    leaf = x509.load_pem_x509_certificate(agent["tls"]["v1_certificate_chain"][0].encode())
    extension = leaf.extensions.get_extension_for_oid(ATTESTATION).value
    assert isinstance(extension, x509.UnrecognizedExtension)
    encoded = extension.value[4:]  # the OCTET STRING's tag, and a length of two bytes
    assert encoded_again(encoded, real_log, agent["v1"]["GetQuote"]["vm_config"]) == encoded


def test_attestation_version_2_encoding_matches_the_real_agents(dstack_vectors: dict[str, Any], real_log: Log) -> None:
    agent = dstack_vectors["real_agent"]
    encoded = bytes.fromhex(agent["tls"]["v2_attestation_hex"])
    shown = json.loads(agent["v2"]["GetQuote"]["event_log"])
    said = [(event["event"], bytes.fromhex(event["event_payload"])) for event in shown if event["imr"] == 3]
    boot = tuple(event for event in real_log if not event.is_runtime)
    log = boot + tuple(runtime_event(name, payload, 2) for name, payload in said)
    assert encoded_again(encoded, log, agent["v2"]["GetQuote"]["vm_config"]) == encoded


def test_attestation_version_2_has_event_preimages_in_hex(dstack_vectors: dict[str, Any]) -> None:
    log = (runtime_event("app-id", bytes.fromhex("66697874757265"), 2),)
    encoded = Attestation(b"quote", with_preimages(log), log, bytes(64), "{}").encoded()
    (event,) = msgpack.unpackb(encoded)["platform"]["data"]["event_log"]
    known = dstack_vectors["v2_event_json"]["Attest form (seen)"]
    assert event == known | {name: bytes.fromhex(known[name]) for name in ("digest", "event_payload")}


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(0, "00"), (63, "fc"), (64, "0101"), (16383, "fdff"), (16384, "02000100"), ((1 << 30) - 1, "feffffff")],
)
def test_scale_lengths_are_encoded_in_every_size(length: int, encoded: str) -> None:
    assert scale_length(length).hex() == encoded


def test_scale_length_over_the_four_byte_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        scale_length(1 << 30)


@given(
    quote=st.binary(max_size=200),
    payload=st.binary(max_size=100),
    report_data=st.binary(min_size=64, max_size=64),
    version=st.sampled_from([1, 2]),
)
def test_encoded_attestation_is_decoded_by_the_verifier(
    quote: bytes, payload: bytes, report_data: bytes, version: int
) -> None:
    log = (runtime_event("app-id", payload, version),)
    encoded = Attestation(quote, of_certificate(log), log, report_data, '{"cpu_count":2}').encoded()
    read = verifier.Attestation.parse(encoded)
    assert (read.quote, read.report_data, read.vm_config) == (quote, report_data, {"cpu_count": 2})
    assert [event.digest for event in read.events] == [log[0].digest]
