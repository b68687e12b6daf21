import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.dstack.guest_agent import KEY_PURPOSE
from attest_web.keys import SigningKeys
from attest_web.signatures import SigningAlgo
from attest_web.verify.dstack.kms_chain import PURPOSE, check_chain, recover
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.secp256k1 import ORDER
from tests.attest_web.verify.minting import (
    ALGOS,
    APP_ID,
    APP_KEY,
    DSTACK_VECTORS,
    KEYS,
    KMS_ROOT,
    OTHER_KEYS,
    signature_chain,
)

ROOT = KMS_ROOT.public_key.format()
OTHER_ROOT = coincurve.PrivateKey(b"\x08" * 32)
VECTORS = DSTACK_VECTORS["signature_chain"]


def public_key(algo: SigningAlgo, keys: SigningKeys = KEYS) -> bytes:
    return keys.ecdsa_public_key if algo == "ecdsa" else keys.ed25519_public_key


def check(algo: SigningAlgo, chain: list[str], app_id: bytes = APP_ID, *roots: bytes) -> str:
    return check_chain(algo, public_key(algo), app_id, [bytes.fromhex(each) for each in chain], roots or {ROOT})


def test_the_purpose_is_that_of_the_signing_keys() -> None:
    assert PURPOSE == KEY_PURPOSE


@pytest.mark.parametrize("kind", ["secp256k1", "ed25519"])
def test_key_chains_of_the_vectors_are_valid(kind: str) -> None:
    chain = [bytes.fromhex(each) for each in (VECTORS[kind]["signature0"], VECTORS["signature1"])]
    assert recover(VECTORS[kind]["message0"].encode(), chain[0]).hex() == VECTORS["app_public_key"]
    assert recover(bytes.fromhex(VECTORS["message1"]), chain[1]).hex() == VECTORS["root_public_key"]
    app_id, root = bytes.fromhex(VECTORS["app_id"]), bytes.fromhex(VECTORS["root_public_key"])
    named = bytes.fromhex(VECTORS[kind]["public_key"])
    if kind == "secp256k1":
        found = check_chain("ecdsa", coincurve.PublicKey(named).format(compressed=False)[1:], app_id, chain, {root})
    else:
        found = check_chain("ed25519", named, app_id, chain, {root})
    assert VECTORS["root_public_key"] in found
    assert VECTORS["app_id"] in found


def test_signature_of_a_real_kms_recovers_its_root_key() -> None:
    signed = DSTACK_VECTORS["kms_sign_message"]
    found = recover(bytes.fromhex(signed["message"]), bytes.fromhex(signed["signature"]))
    assert found.hex() == signed["recovered_root_public_key"]


@pytest.mark.parametrize("algo", ALGOS)
def test_key_chain_to_a_known_root_is_valid(algo: SigningAlgo) -> None:
    for roots in ((ROOT,), (OTHER_ROOT.public_key.format(), ROOT)):
        check(algo, signature_chain(algo), APP_ID, *roots)


def lies(algo: SigningAlgo) -> dict[str, list[str]]:
    true = signature_chain(algo)
    other: SigningAlgo = "ed25519" if algo == "ecdsa" else "ecdsa"
    v_flipped = true[0][:-2] + ("01" if true[0].endswith("00") else "00")
    return {
        "another root": signature_chain(algo, root=OTHER_ROOT),
        "another app": signature_chain(algo, app_id=b"\7" * 20),
        "another purpose": signature_chain(algo, purpose="other"),
        "another key of this kind": signature_chain(algo, keys=OTHER_KEYS),
        "the other key": signature_chain(other),
        "an app key that was not issued": [signature_chain(algo, app_key=OTHER_ROOT)[0], true[1]],
        "swapped": true[::-1],
        "the first twice": [true[0], true[0]],
        "the second twice": [true[1], true[1]],
        "another v": [v_flipped, true[1]],
        "signed by the root alone": [signature_chain(algo, app_key=KMS_ROOT)[0], true[1]],
    }


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("lie", lies("ecdsa"))
def test_key_chain_that_leads_elsewhere_is_refused(algo: SigningAlgo, lie: str) -> None:
    with pytest.raises(FailedError, match="not the expected one|none of secp256k1's"):  # noqa: RUF043
        check(algo, lies(algo)[lie])


@pytest.mark.parametrize("algo", ALGOS)
def test_the_app_id_is_that_of_the_log(algo: SigningAlgo) -> None:
    with pytest.raises(FailedError, match="leads to the root"):
        check(algo, signature_chain(algo), b"\7" * 20)


def test_app_key_as_the_expected_root_is_refused() -> None:
    with pytest.raises(FailedError, match="not the expected one"):
        check("ecdsa", signature_chain("ecdsa"), APP_ID, APP_KEY.public_key.format())


def test_key_chain_without_two_signatures_of_65_bytes_is_refused() -> None:
    true = signature_chain("ecdsa")
    for chain in ([], true[:1], [*true, true[1]], [true[0], ""], ["", true[1]], [true[0][:-2], true[1]]):
        with pytest.raises(FailedError, match="signatures, not 2|bytes long, not 65"):  # noqa: RUF043
            check("ecdsa", chain)
    for place in (0, 1):
        for v in ("02", "04", "1b", "ff"):
            bent = [each[:-2] + v if n == place else each for n, each in enumerate(true)]
            with pytest.raises(FailedError):
                check("ecdsa", bent)


def test_signing_key_that_is_no_curve_point_is_refused() -> None:
    chain = [bytes.fromhex(each) for each in signature_chain("ecdsa")]
    for nonsense in (bytes(64), b"\xff" * 64, KEYS.ecdsa_public_key[:-1] + b"\0"):
        with pytest.raises(FailedError, match="not a point of secp256k1's curve"):
            check_chain("ecdsa", nonsense, APP_ID, chain, {ROOT})


@settings(deadline=None)
@given(st.binary(min_size=65, max_size=65) | st.binary(max_size=70), st.binary(min_size=65, max_size=65))
def test_key_chain_of_random_bytes_is_refused(first: bytes, second: bytes) -> None:
    with pytest.raises(FailedError):
        check_chain("ed25519", KEYS.ed25519_public_key, APP_ID, [first, second], {ROOT})


@settings(deadline=None)
@given(st.integers(0, 1), st.integers(0, 64), st.integers(1, 255))
def test_key_chain_with_a_changed_byte_is_refused(signature: int, place: int, change: int) -> None:
    chain = [bytearray.fromhex(each) for each in signature_chain("ed25519")]
    chain[signature][place] ^= change
    with pytest.raises(FailedError):
        check("ed25519", [each.hex() for each in chain])


@pytest.mark.parametrize("place", [0, 1])
def test_key_chain_signature_with_a_high_s_is_refused(place: int) -> None:
    chain = signature_chain("ecdsa")
    raw = bytes.fromhex(chain[place])
    high = (ORDER - int.from_bytes(raw[32:64])).to_bytes(32)
    chain[place] = (raw[:32] + high + bytes([1 - raw[64]])).hex()
    with pytest.raises(FailedError, match="s is high in a signature in the chain"):
        check("ecdsa", chain)
