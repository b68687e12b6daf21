import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.verify.collateral import DcapVerifier, collateral_from_json, root_certificate
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.dstack.certificates import NOW
from tests.support.certificates import key_pem, self_signed


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, bytes]:
    """A certificate for 127.0.0.1 with its key in one file, and SHA-256 of its SPKI."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = self_signed(key)
    file = tmp_path / "tls.pem"
    file.write_bytes(pem + key_pem(key))
    return file, certificate_spki_sha256(ssl.PEM_cert_to_DER_cert(pem.decode()))


@pytest.fixture(scope="module")
def leaf(dstack_vectors: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"][0].encode())


@pytest.fixture(scope="module")
def compose_hash(dstack_vectors: dict[str, Any]) -> bytes:
    return bytes.fromhex(dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]["compose_hash"])


@pytest.fixture(scope="module")
def policy(dstack_vectors: dict[str, Any], compose_hash: bytes) -> Policy:
    """Pins the compose file, and the guest by its registers: they are of another image than `vm_config` names."""
    pki = dstack_vectors["real_agent"]["mock_pki"]
    collateral = collateral_from_json(json.dumps(pki["collateral"]))
    root = root_certificate(pki["root_pem"].encode())
    verifier = DcapVerifier(lambda _: collateral, root, clock=NOW.timestamp)
    quote = TdxQuote.parse(bytes.fromhex(dstack_vectors["real_agent"]["v1"]["GetQuote"]["quote"]))
    return Policy(verifier, compose_hash=compose_hash, mrtd=quote.mrtd, rtmrs=dict(enumerate(quote.rtmrs[:3])))
