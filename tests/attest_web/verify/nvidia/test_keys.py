import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.nvidia.keys import (
    JWKS_PATH,
    MAX_AGE,
    MAX_JWKS,
    MAX_KEYS,
    NvidiaKeys,
    NvidiaKeysFetcher,
    jwks_origin,
)
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.http_client import HttpClient, Origin
from tests.attest_web.verify.fake_proxy import FakeProxy, fake_proxy
from tests.attest_web.verify.nvidia.fake_nras import KEY_ID, jwk, jwks, signing_key

_TEXT = st.text("Aa0-_=+/é")
KEY, OTHER = signing_key(), signing_key()
JWK = jwk(KEY)


def key_set(*keys: object) -> str:
    return json.dumps({"keys": keys})


def test_jwks_keys_are_found_by_their_id() -> None:
    keys = NvidiaKeys.parse(key_set(JWK, jwk(OTHER, "other")))
    assert keys.by_id == {KEY_ID: KEY.public_key(), "other": OTHER.public_key()}
    assert keys.has([KEY_ID, "other"])
    assert not keys.has([KEY_ID, "another"])


def test_jwk_without_a_certificate_is_accepted() -> None:
    del (bare := dict(JWK))["x5c"]
    assert NvidiaKeys.parse(key_set(bare)).by_id == {KEY_ID: KEY.public_key()}


@pytest.mark.parametrize(
    "other",
    [
        jwk(signing_key(SECP256R1()), "other"),
        {"kty": "RSA", "kid": "other", "n": "AQ", "e": "AQAB"},
        {"kty": "oct", "kid": "other", "k": "AQ"},
        {"kty": "AKP", "kid": "other"},
        {"kid": "other"},
        {},
        jwk(OTHER, "other") | {"alg": "ES256"},
        jwk(OTHER, "other") | {"use": "enc"},
        jwk(OTHER) | {"kid": None},
    ],
)
def test_jwk_for_another_purpose_is_skipped(other: dict[str, Any]) -> None:
    assert NvidiaKeys.parse(key_set(other, JWK)).by_id == {KEY_ID: KEY.public_key()}
    with pytest.raises(FailedError, match="no key for ES384"):
        NvidiaKeys.parse(key_set(other))


@pytest.mark.parametrize(
    ("jwks_text", "why"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no 'keys'"),
        ('{"keys": {}}', "not a list"),
        (key_set(), "no key"),
        (key_set(1), "not a JSON object"),
        (key_set(JWK, JWK), "more than one key"),
        (key_set(JWK, jwk(OTHER)), "more than one key"),
        (key_set(JWK, {"kty": "RSA", "kid": KEY_ID}), "more than one key"),
        ('{"keys": [], "keys": []}', "more than one 'keys'"),
        (key_set(*({"kid": str(n)} for n in range(MAX_KEYS + 1))), "257 keys"),
        (" " * MAX_JWKS + key_set(JWK), "longer"),
        (key_set(JWK | {"kid": 1}), "not a string"),
        (key_set(JWK | {"kid": "a\nb"}), "printable"),
        (key_set(JWK | {"x": JWK["y"]}), "not a point"),
        (key_set(JWK | {"x": JWK["x"] + "AAAA"}), "48 bytes"),
        (key_set(JWK | {"x": JWK["x"][:-1] + "="}), "48 bytes"),
        (key_set(JWK | {"x": None}), "no 'x'"),
        (key_set(JWK | {"y": 1}), "not a string"),
        (key_set(JWK | {"x5c": jwk(OTHER)["x5c"]}), "is for another key"),
        (key_set(JWK | {"x5c": []}), "no certificate"),
        (key_set(JWK | {"x5c": None}), "no 'x5c'"),
        (key_set(JWK | {"x5c": ["AAAA"]}), "cannot be read"),
        (key_set(JWK | {"x5c": ["?"]}), "not base64"),
        (key_set(JWK | {"x5c": ["é"]}), "not base64"),
    ],
)
def test_malformed_jwks_fails(jwks_text: str, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        NvidiaKeys.parse(jwks_text)


@settings(deadline=None)
@given(st.binary() | st.dictionaries(st.sampled_from(sorted(JWK)), _TEXT | st.lists(_TEXT) | st.none()))
def test_jwks_of_any_bytes_raises_no_unexpected_error(made: bytes | dict[str, Any]) -> None:
    with pytest.raises(FailedError):
        NvidiaKeys.parse(made if isinstance(made, bytes) else key_set(JWK | {"x": "A" * 64} | made))


@pytest.fixture
def service() -> Iterator[FakeProxy]:
    with fake_proxy({JWKS_PATH: (200, jwks(KEY))}) as server:
        yield server


def fetcher(url: str, now: list[float] | None = None) -> NvidiaKeysFetcher:
    client = HttpClient(jwks_origin(Origin.parse(url)), max_bytes=MAX_JWKS)
    return NvidiaKeysFetcher(client, (lambda: now[0]) if now is not None else lambda: 0.0)


def test_fetched_jwks_is_cached(service: FakeProxy) -> None:
    fetch = fetcher(service.url + "/v3/attest/gpu")
    assert fetch([KEY_ID]).by_id == {KEY_ID: KEY.public_key()}
    assert fetch([KEY_ID]) is fetch()
    assert service.asked == [JWKS_PATH]


def test_jwks_is_fetched_again_for_an_unknown_key_id(service: FakeProxy) -> None:
    fetch = fetcher(service.url)
    fetch()
    service.replaced[JWKS_PATH] = 200, key_set(JWK, jwk(OTHER, "new")).encode()
    assert fetch(["new"]).has([KEY_ID, "new"])
    assert not fetch(["forged"]).has(["forged"])
    assert service.asked == [JWKS_PATH] * 3


def test_jwks_is_fetched_again_after_its_maximum_age(service: FakeProxy) -> None:
    now = [0.0]
    fetch = fetcher(service.url, now)
    fetch([KEY_ID])
    now[0] = MAX_AGE - 1
    fetch([KEY_ID])
    assert len(service.asked) == 1
    service.replaced[JWKS_PATH] = 200, jwks(OTHER, "new")
    now[0] = MAX_AGE
    assert not fetch().has([KEY_ID])


@pytest.mark.parametrize(
    "answer", [(404, b""), (200, b"{}"), (200, b'{"keys": []}'), (302, jwks(KEY)), (200, b" " * (MAX_JWKS + 1))]
)
def test_jwks_that_cannot_be_fetched_raises_not_made(service: FakeProxy, answer: tuple[int, bytes]) -> None:
    service.replaced[JWKS_PATH] = answer
    with pytest.raises(NotMadeError, match="NVIDIA's keys could not be fetched"):
        fetcher(service.url)()


def test_jwks_of_an_unreachable_service_raises_not_made() -> None:
    with pytest.raises(NotMadeError, match="cannot connect"):
        fetcher("http://127.0.0.1:9")()
