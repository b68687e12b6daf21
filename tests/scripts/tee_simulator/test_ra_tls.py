"""Certificates, against those of dstack's own agent."""

import datetime
import ipaddress
from typing import Any

import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from attest_web.verify.dstack import attestation as verifier
from scripts.tee_simulator import ra_tls
from scripts.tee_simulator.guest import DEVICE_ID, GuestOptions, SimulatedGuest
from scripts.tee_simulator.image import OS_IMAGE_HASH
from scripts.tee_simulator.kms import KeyProviderKind
from scripts.tee_simulator.ra_tls import CertificateError, CertificateRequest
from scripts.tee_simulator.tdx import SimulatedPlatform

SEED = bytes(range(32))
ASKED = CertificateRequest(subject="localhost", alt_names=["localhost", "127.0.0.1"], server_auth=True)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def boot(platform: SimulatedPlatform, kind: str = "kms", **options: Any) -> SimulatedGuest:
    return SimulatedGuest(platform, GuestOptions(SEED, key_provider=KeyProviderKind(kind), **options))


def loaded(chain: list[str]) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in chain]


def octets(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    value = certificate.extensions.get_extension_for_oid(oid).value
    assert isinstance(value, x509.UnrecognizedExtension)
    assert value.value[0] == 4
    long = value.value[1] & 0x7F if value.value[1] & 0x80 else 0
    return value.value[2 + long :]


def shape(certificate: x509.Certificate) -> list[tuple[str, bool]]:
    return [(extension.oid.dotted_string, extension.critical) for extension in certificate.extensions]


def test_certificate_chain_without_a_kms_has_the_shape_of_the_real_agents(
    dstack_vectors: dict[str, Any], platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    """The agent was asked for the same: subject, names, use as a server, attestation and app info."""
    real = loaded(dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"])
    ours = loaded(boot(platform, "none").issue(key, ASKED, attested=True, with_app_info=True))
    assert [shape(certificate) for certificate in ours] == [shape(certificate) for certificate in real]
    for of_ours, of_real in zip(ours, real, strict=True):
        for plain in (x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage, x509.BasicConstraints):
            if any(isinstance(extension.value, plain) for extension in of_real.extensions):
                expected = of_real.extensions.get_extension_for_class(plain).value
                assert of_ours.extensions.get_extension_for_class(plain).value == expected
        assert of_ours.not_valid_before_utc == of_real.not_valid_before_utc
        assert of_ours.signature_algorithm_oid == of_real.signature_algorithm_oid
    assert octets(ours[0], ra_tls.CERTIFICATE_USAGE) == octets(real[0], ra_tls.CERTIFICATE_USAGE)
    assert ours[0].subject == real[0].subject
    ours[0].verify_directly_issued_by(ours[1])
    ours[1].verify_directly_issued_by(ours[1])


def test_certificate_chain_with_a_kms_includes_the_app_ca(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    guest = boot(platform)
    leaf, app_ca, root = loaded(guest.issue(key, ASKED, attested=True))
    leaf.verify_directly_issued_by(app_ca)
    app_ca.verify_directly_issued_by(root)
    assert [certificate.subject.rfc4514_string() for certificate in (app_ca, root)] == [
        "CN=Dstack App CA,O=Dstack",
        "CN=Dstack KMS CA,O=Dstack",
    ]
    assert octets(leaf, ra_tls.APP_ID) == octets(app_ca, ra_tls.APP_ID) == guest.app.app_id
    assert octets(app_ca, ra_tls.CERTIFICATE_USAGE) == b"app:ca"
    spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == guest.provider.id
    for certificate in (leaf, app_ca, root):
        assert x509.AuthorityKeyIdentifier.oid not in [extension.oid for extension in certificate.extensions]


@pytest.mark.parametrize("version", [1, 2])
def test_leaf_certificate_attests_its_public_key(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey, version: int
) -> None:
    guest = boot(platform, event_log_version=version)
    leaf = loaded(guest.issue(key, ASKED, attested=True))[0]
    read = verifier.Attestation.parse(octets(leaf, ra_tls.ATTESTATION))
    assert read.report_data == ra_tls.report_data(key.public_key())
    assert read.report_data in read.quote
    assert {event.register for event in read.events} == {0, 3}


def test_ra_tls_report_data_matches_the_real_agents(dstack_vectors: dict[str, Any]) -> None:
    certificate = loaded(dstack_vectors["real_agent"]["tls"]["v1_certificate_chain"])[0]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    read = verifier.Attestation.parse(octets(certificate, ra_tls.ATTESTATION))
    assert ra_tls.report_data(key) == read.report_data


def test_app_info_extension_has_the_real_agents_layout(
    dstack_vectors: dict[str, Any], platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    known = dstack_vectors["real_agent"]["tls"]
    guest = boot(platform)
    ours = msgpack.unpackb(
        octets(loaded(guest.issue(key, ASKED, attested=False, with_app_info=True))[0], ra_tls.APP_INFO)
    )
    real = msgpack.unpackb(octets(loaded(known["v1_certificate_chain"])[0], ra_tls.APP_INFO))
    said = dict(zip(known["app_info_order"], ours, strict=True))
    assert (said["app_id"], said["compose_hash"]) == (guest.app.app_id, guest.app.compose_hash)
    assert (said["device_id"], said["os_image_hash"]) == (DEVICE_ID, OS_IMAGE_HASH)
    assert [type(value) for value in ours] == [type(value) for value in real]
    assert [len(value) for value in ours[:7]] == [len(value) for value in real[:7]]


def test_leaf_certificate_has_only_the_requested_extensions(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    leaf = loaded(boot(platform, "none").issue(key, CertificateRequest(subject="me"), attested=False))[0]
    assert shape(leaf) == [("2.5.29.15", True), (ra_tls.CERTIFICATE_USAGE.dotted_string, False)]
    assert leaf.not_valid_before_utc == datetime.datetime(1975, 1, 1, tzinfo=datetime.UTC)
    in_ten_years = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3650)
    assert abs(leaf.not_valid_after_utc - in_ten_years) < datetime.timedelta(minutes=5)


def test_leaf_certificate_has_the_requested_names_usage_and_validity(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    request = CertificateRequest("me", ["::1", "a.example"], client_auth=True, not_before=100, not_after=200)
    leaf = loaded(boot(platform, "none").issue(key, request, attested=False))[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.IPAddress(ipaddress.ip_address("::1")), x509.DNSName("a.example")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()) == (100, 200)


def test_leaf_certificate_before_0_6_has_separate_quote_and_event_log(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey
) -> None:
    guest = boot(platform, os_version="0.5")
    leaf = loaded(guest.issue(key, ASKED, attested=True))[0]
    oids = [extension.oid for extension in leaf.extensions]
    assert ra_tls.ATTESTATION not in oids
    assert ra_tls.report_data(key.public_key()) in octets(leaf, ra_tls.QUOTE)
    assert octets(leaf, ra_tls.EVENT_LOG).startswith(b'[{"imr":0,')


@pytest.mark.parametrize(
    "wrong",
    [
        {"not_before": 2, "not_after": 1},
        {"not_after": 1},
        {"not_after": 1 << 63},
        {"subject": "x" * 65},
        {"alt_names": ["ü.example"]},
    ],
)
def test_invalid_certificate_request_is_refused(
    platform: SimulatedPlatform, key: ec.EllipticCurvePrivateKey, wrong: dict[str, Any]
) -> None:
    with pytest.raises(CertificateError):
        boot(platform, "none").issue(key, CertificateRequest(**wrong), attested=False)
