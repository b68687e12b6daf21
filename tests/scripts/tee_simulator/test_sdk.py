"""The simulator before dstack's own client."""

import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from dstack_sdk import DstackClient

from attest_web.verify.dstack import attestation as verifier
from scripts.tee_simulator.guest import GuestOptions, SimulatedGuest
from scripts.tee_simulator.kms import public_key
from scripts.tee_simulator.ra_tls import ATTESTATION
from scripts.tee_simulator.tdx import SimulatedPlatform
from tests.scripts.tee_simulator.serving import Serving, serving
from tests.support.limits import limit

REPORT_DATA = bytes(range(64))


@pytest.fixture
def client(served: Serving) -> DstackClient:
    return DstackClient(endpoint=str(served.path), timeout=limit())


def test_sdk_get_key_returns_one_secret_with_a_chain_per_algorithm(client: DstackClient) -> None:
    plain = client.get_key("m/key", "signing")
    assert plain.decode_key() == client.get_key("m/key", "signing", "secp256k1").decode_key()
    ed25519 = client.get_key("m/key", "signing", "ed25519")
    assert ed25519.decode_key() == plain.decode_key()
    assert ed25519.decode_signature_chain()[0] != plain.decode_signature_chain()[0]
    assert ed25519.decode_signature_chain()[1] == plain.decode_signature_chain()[1]


def test_sdk_get_quote_returns_quote_log_and_vm_config(client: DstackClient, served: Serving) -> None:
    answer = client.get_quote(REPORT_DATA)
    assert REPORT_DATA in answer.decode_quote()
    log = answer.decode_event_log()
    assert [event.event for event in log if event.imr == 3][-1] == "system-ready"
    assert json.loads(answer.vm_config)["os_image_hash"] == served.guest.identity()["os_image_hash"]


def test_sdk_info_matches_the_guest(client: DstackClient, served: Serving) -> None:
    info = client.info()
    assert info.app_id == served.guest.app.app_id.hex()
    assert info.tcb_info.app_compose == served.guest.app.compose
    assert info.tcb_info.rtmr3 == served.guest.measured.rtmrs[3].hex()
    assert info.mr_aggregated == info.tcb_info.mr_aggregated == served.guest.mr_aggregated.hex()


@pytest.mark.parametrize("algorithm", ["ed25519", "secp256k1", "secp256k1_prehashed"])
def test_sdk_sign_and_verify_work_with_each_algorithm(client: DstackClient, served: Serving, algorithm: str) -> None:
    signed = client.sign(algorithm, bytes(32))
    signature, chain, key = bytes.fromhex(signed.signature), signed.signature_chain, bytes.fromhex(signed.public_key)
    of_key = algorithm.removesuffix("_prehashed")
    assert (len(chain), chain[0]) == (3, signed.signature)
    secret, expected = served.guest.keys.get_key("vms", "signing", of_key)
    assert (key, chain[1:]) == (public_key(secret, of_key), [link.hex() for link in expected])
    assert client.verify(algorithm, bytes(32), signature, key).valid
    assert not client.verify(algorithm, bytes(31) + b"\1", signature, key).valid


def test_sdk_attest_returns_an_attestation_with_the_report_data(client: DstackClient) -> None:
    read = verifier.Attestation.parse(bytes.fromhex(client.attest(REPORT_DATA).attestation))
    assert read.report_data == REPORT_DATA
    assert REPORT_DATA in read.quote


def test_sdk_get_tls_key_returns_a_fresh_key_with_an_attested_certificate(client: DstackClient) -> None:
    answer = client.get_tls_key("localhost", ["localhost"], usage_ra_tls=True, usage_server_auth=True)
    leaf = x509.load_pem_x509_certificate(answer.certificate_chain[0].encode())
    key = load_pem_private_key(answer.key.encode(), None)
    assert key.public_key() == leaf.public_key()
    assert leaf.extensions.get_extension_for_oid(ATTESTATION)
    assert len(answer.certificate_chain) == 3
    assert client.get_tls_key("localhost").key != answer.key


def test_sdk_version_is_0_6_0(client: DstackClient) -> None:
    assert client.version().version == "0.6.0"


def test_sdk_with_a_0_5_guest_has_one_algorithm_and_can_emit_events(
    platform: SimulatedPlatform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    guest = SimulatedGuest(platform, GuestOptions(bytes(32), os_version="0.5"))
    with serving(tmp_path_factory.mktemp("old"), guest) as served:
        client = DstackClient(endpoint=str(served.path), timeout=limit())
        with pytest.raises(RuntimeError):  # the SDK asks for the version, which 0.5.5 does not tell
            client.get_key("m/key", "signing", "ed25519")
        with served.client() as http:
            asked = {"path": "m/key", "purpose": "signing"}
            plain = http.post("/GetKey", json=asked).json()
            assert http.post("/GetKey", json=asked | {"algorithm": "rsa"}).json() == plain
            for method in ("Attest", "Sign", "Verify", "GpuInfo", "Version"):
                refused = http.post(f"/{method}", json={})
                assert (refused.status_code, refused.json()) == (400, {"error": f"Service not found: {method}"})
        client.emit_event("mine", b"payload")
        log = client.get_quote(REPORT_DATA).decode_event_log()
        assert (log[-1].event, log[-1].event_payload) == ("mine", b"payload".hex())
        assert client.info().tcb_info.event_log == log
