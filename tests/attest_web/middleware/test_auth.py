import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.middleware.auth import Tokens


@pytest.mark.parametrize("value", [b"Bearer one", b"bearer two", b"BEARER  two ", b" Bearer one"])
def test_bearer_token_of_several_is_accepted(value: bytes) -> None:
    assert Tokens(["one", "two"]).accept(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"one",
        b"Basic one",
        b"Bearer on",
        b"Bearer onee",
        b"Bearer one,two",
        b"Bearer \xff",
    ],
)
def test_malformed_or_unknown_credential_is_refused(value: bytes | None) -> None:
    assert not Tokens(["one", "two"]).accept(value)


@given(st.binary())
def test_credential_of_any_bytes_raises_no_error(value: bytes) -> None:
    assert not Tokens(["a-token-that-is-long-enough-not-to-be-found"]).accept(value)


def test_tokens_without_any_token_raise_value_error() -> None:
    with pytest.raises(ValueError, match="token"):
        Tokens([])


def test_tokens_are_compared_by_digest_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("attest_web.middleware.auth.hmac.compare_digest", compare_digest)
    assert Tokens(["one", "two", "three"]).accept(b"Bearer one")
    assert len(compared) == 3, "the first match must not end the comparison"
    assert {len(side) for pair in compared for side in pair} == {32}


def test_replaced_tokens_are_refused() -> None:
    tokens = Tokens(["one", "two"])
    tokens.replace(["two", "three"])
    assert [tokens.accept(b"Bearer " + token) for token in (b"one", b"two", b"three")] == [False, True, True]
    with pytest.raises(ValueError, match="token"):
        tokens.replace([])
    assert tokens.accept(b"Bearer two")


def test_credential_is_known_until_its_token_is_removed() -> None:
    tokens = Tokens(["one", "two"])
    one, two = (tokens.credential(b"Bearer " + token) or "" for token in (b"one", b"two"))
    assert [tokens.knows(credential) for credential in (one, two, "")] == [True, True, False]
    tokens.replace(["two"])
    assert [tokens.knows(credential) for credential in (one, two)] == [False, True]


def test_repr_holds_no_token() -> None:
    tokens = Tokens(["s3cret"])
    assert "s3cret" not in repr(tokens)
    assert "s3cret" not in repr(vars(tokens))


def test_credential_is_a_stable_name_that_does_not_reveal_the_token() -> None:
    tokens = Tokens(["one", "two"])
    names = [tokens.credential(b"Bearer " + token) for token in (b"one", b"two", b"three")]
    assert names == ["7692c3ad3540bb80", "3fc4ccfe745870e2", None]
    assert tokens.credential(b"bearer  one ") == names[0]
