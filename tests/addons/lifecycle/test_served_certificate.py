import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy import exceptions
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.test import taddons

from addons.lifecycle.served_certificate import ServedCertificate
from attest_web.process.memory_file import MemoryFile
from tests.support.certificates import key_pem, self_signed


@pytest.fixture
def served() -> ServedCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    return ServedCertificate(MemoryFile.holding(key_pem(key) + self_signed(key), "test"))


def test_served_certificate_is_used_by_mitmproxy_for_every_name(served: ServedCertificate) -> None:
    tls = TlsConfig()
    with taddons.context(served, tls) as context:
        context.options.update(**served.options())
        assert tls.certstore.get_cert("any.example", []).cert.cn == "test"


def test_served_certificate_cannot_be_replaced_while_the_proxy_runs(served: ServedCertificate) -> None:
    with taddons.context(served) as context:
        context.options.update(**served.options())
        for certs in ([], ["/other.pem"], [*served.options()["certs"], "x=/other.pem"]):
            with pytest.raises(exceptions.OptionsError, match="restart without TLS_FROM_DSTACK"):
                context.options.update(certs=certs)
            assert list(context.options.certs) == served.options()["certs"]
        context.options.update(http2=False)
