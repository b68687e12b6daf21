"""Before a server whose certificate dstack has made, nothing is sent that the attestation in it does not vouch for."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client import MismatchError, UnprovenError, proof_of, verified_async_openai, verified_openai
from attest_web.verify.certificate_verifier import any_certificate
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from scripts.tee_simulator.app import MrConfigVersion
from scripts.tee_simulator.guest import GuestOptions, SimulatedGuest
from scripts.tee_simulator.image import OS_IMAGE_HASH
from scripts.tee_simulator.ra_tls import CertificateRequest
from scripts.tee_simulator.tdx import SimulatedPlatform
from tests.attest_web.client.signing_server import CHAT, LENIENT
from tests.attest_web.verify.fake_proxy import FakeProxy, fake_proxy
from tests.attest_web.verify.minting import APP_COMPOSE, COMPOSE_HASH, MRTD
from tests.support.certificates import key_pem, self_signed

COMPOSE: dict[str, Any] = {"verify_quote": LENIENT.verify_quote, "compose_hash": COMPOSE_HASH}
POLICY = Policy(**COMPOSE, os_image_hashes=frozenset({OS_IMAGE_HASH}), gpu=LENIENT.gpu, allow_dev=True)


def certificate_of(compose: str, where: Path) -> Path:
    """A certificate that a guest has made that runs an app, with its key, in one file."""
    guest = SimulatedGuest(SimulatedPlatform(), GuestOptions(b"s" * 32, compose=compose, mr_config=MrConfigVersion.V1))
    key = ec.generate_private_key(ec.SECP256R1())
    leaf, *_ = guest.issue(key, CertificateRequest("x", ("127.0.0.1",), server_auth=True), attested=True)
    where.write_bytes(leaf.encode() + key_pem(key))
    return where


class Server:
    """A TLS server that can change its certificate; its reports are about the one that it shows."""

    def __init__(self, proxy: FakeProxy, tls: ssl.SSLContext) -> None:
        self.proxy = proxy
        self._tls = tls

    @property
    def url(self) -> str:
        return self.proxy.url.replace("http:", "https:") + "/v1"

    def show(self, file: Path) -> None:
        self._tls.load_cert_chain(file)
        pem = file.read_text().partition("-----END CERTIFICATE-----")
        self.proxy.spki = certificate_spki_sha256(ssl.PEM_cert_to_DER_cert(pem[0] + pem[1]))


@pytest.fixture
def true_one(tmp_path: Path) -> Path:
    return certificate_of(APP_COMPOSE, tmp_path / "true.pem")


@pytest.fixture
def server(true_one: Path) -> Iterator[Server]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(true_one)
    with fake_proxy(spki=b"", tls=tls) as proxy:
        made = Server(proxy, tls)
        made.show(true_one)
        yield made


@pytest.fixture(params=["another app's", "without attestation"])
def false_one(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "false.pem"
    if request.param == "another app's":
        return certificate_of(APP_COMPOSE + " ", file)
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(self_signed(key) + key_pem(key))
    return file


def test_ra_tls_certificate_of_the_expected_app_is_accepted_without_a_ca(server: Server) -> None:
    with verified_openai(server.url, api_key="t", policy=POLICY, ra_tls=True) as client:
        proof = proof_of(client.chat.completions.create(**CHAT))
    assert {"ecdsa TLS key", "ed25519 TLS key"} <= {check.name for check in proof.checks}


def test_ra_tls_server_with_an_unattested_certificate_gets_no_request(server: Server, false_one: Path) -> None:
    server.show(false_one)
    with verified_openai(server.url, api_key="t", policy=POLICY, ra_tls=True, max_retries=0) as client:
        with pytest.raises((MismatchError, UnprovenError), match="server's certificate"):
            client.chat.completions.create(**CHAT)
    assert server.proxy.asked == []
    assert server.proxy.tokens == []


def test_ra_tls_server_that_changes_to_an_unattested_certificate_gets_no_request(
    server: Server, false_one: Path
) -> None:
    each_anew = httpx2.HTTPTransport(verify=any_certificate(), limits=httpx2.Limits(max_keepalive_connections=0))
    with verified_openai(server.url, api_key="t", policy=POLICY, ra_tls=True, transport=each_anew) as client:
        client.chat.completions.create(**CHAT)
        before = len(server.proxy.asked)
        server.show(false_one)
        with pytest.raises(MismatchError, match="server's certificate"):
            client.chat.completions.create(**CHAT)
    assert len(server.proxy.asked) == before


def test_ra_tls_async_client_verifies_the_certificate_too(server: Server, true_one: Path, false_one: Path) -> None:
    async def talk() -> None:
        server.show(false_one)
        async with verified_async_openai(server.url, api_key="t", policy=POLICY, ra_tls=True) as client:
            with pytest.raises((MismatchError, UnprovenError), match="server's certificate"):
                await client.chat.completions.create(**CHAT)
            assert server.proxy.asked == []
            server.show(true_one)
            await client.chat.completions.create(**CHAT)

    asyncio.run(talk())


def test_ra_tls_verifies_the_certificate_of_the_proof_url_too(server: Server, false_one: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with fake_proxy(spki=b"", tls=tls) as proxy:
        proofs = Server(proxy, tls)
        proofs.show(false_one)
        with verified_openai(
            server.url, api_key="t", policy=POLICY, ra_tls=True, proof_url=proofs.url, max_retries=0
        ) as client:
            with pytest.raises((MismatchError, UnprovenError), match="server's certificate"):
                client.chat.completions.create(**CHAT)
        assert proxy.asked == []


@pytest.mark.parametrize(
    "bent",
    [
        {"policy": None},
        {"policy": Policy(LENIENT.verify_quote, os_image_hashes=frozenset({OS_IMAGE_HASH}))},
        {"policy": Policy(**COMPOSE)},
        {"policy": Policy(**COMPOSE, mrtd=MRTD)},
        {"policy": Policy(**COMPOSE, mrtd=MRTD, rtmrs={0: MRTD, 1: MRTD})},
        {"policy": Policy(**COMPOSE, rtmrs=dict.fromkeys(range(3), MRTD))},
        {"tls_binding": False},
        {"policy": None, "signers": ["0x" + "00" * 20]},
        {"base_url": "http://localhost/v1"},
        {"proof_url": "http://localhost/v1"},
    ],
)
def test_ra_tls_without_a_pinned_app_image_and_tls_binding_raises_value_error(bent: dict[str, Any]) -> None:
    given: dict[str, Any] = {"base_url": "https://localhost/v1", "policy": POLICY, "api_key": "t", "ra_tls": True}
    with pytest.raises(ValueError, match="ra_tls goes with"):
        verified_openai(**(given | bent))


@pytest.mark.parametrize(
    "image",
    [
        {"os_image_hashes": frozenset({OS_IMAGE_HASH})},
        {"mrtd": MRTD, "rtmrs": dict.fromkeys(range(3), MRTD)},
    ],
    ids=["hash", "registers"],
)
def test_ra_tls_accepts_an_image_pinned_by_hash_or_by_all_registers(image: dict[str, Any]) -> None:
    policy = Policy(**COMPOSE, **image)
    for proof_url in (None, "https://proof.test/v1"):
        given: dict[str, Any] = {"policy": policy, "api_key": "t", "ra_tls": True, "proof_url": proof_url}
        with verified_openai("https://localhost/v1", **given) as client:
            assert not client.is_closed()
