"""What binds a signing key, a nonce and a TLS key to a quote: its report_data."""

from attest_web.attestation.report_data import report_data
from attest_web.keys import keccak256
from attest_web.signatures import SigningAlgo
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.signed_text import ADDRESS_BYTES, shown_address

SHA256_BYTES = 32
PUBLIC_KEY_BYTES: dict[SigningAlgo, int] = {"ecdsa": 64, "ed25519": 32}


def check_address_bound(
    algo: SigningAlgo, address: bytes, nonce: bytes, spki: bytes | None, quoted_report_data: bytes
) -> str:
    """Check the first half of report_data; return what was found.

    Raises:
        FailedError: report_data holds something else.
    """
    if quoted_report_data[:32] != report_data(address, nonce, spki)[:32]:
        what = "this address" if spki is None else "this address together with this TLS key"
        raise FailedError(f"the quote does not carry {what} ({shown_address(algo, address)})")
    with_tls = "" if spki is None else " with the TLS key"
    return f"the quote carries {shown_address(algo, address)}{with_tls}"


def check_public_key(algo: SigningAlgo, public_key: bytes, address: bytes) -> str:
    """Check that an address is derived from a public key; return what was found.

    Args:
        algo: The algorithm.
        public_key: 64 bytes, uncompressed without `04` (ECDSA), or 32 (Ed25519).
        address: 20 bytes or 32.

    Raises:
        FailedError: The key has another address.
    """
    if len(public_key) != PUBLIC_KEY_BYTES[algo] or len(address) != ADDRESS_BYTES[algo]:
        raise FailedError("the public key or the address has the wrong length")
    gives = keccak256(public_key)[-20:] if algo == "ecdsa" else public_key
    if gives != address:
        raise FailedError(f"the public key gives {shown_address(algo, gives)}, not {shown_address(algo, address)}")
    return f"it gives {shown_address(algo, address)}"
