import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.middleware.cors import EXPOSED, MAX_EXPOSED, CorsPolicy, with_exposed

OURS, THEIRS = "https://chat.example", "https://evil.example"
ANY, ONE, NONE = CorsPolicy(frozenset("*")), CorsPolicy(frozenset({OURS})), CorsPolicy(frozenset())


def test_cors_with_any_origin_allowed_returns_a_star() -> None:
    for origin in (OURS, THEIRS, "null"):
        expected = {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}
        assert ANY.answer_headers(origin) == expected
    assert ANY.answer_headers(None) == {}


def test_other_origins_get_no_cors_headers_and_vary_is_set() -> None:
    assert ONE.answer_headers(OURS)["access-control-allow-origin"] == OURS
    for origin in (OURS, THEIRS, "null", OURS + ".evil.example", "HTTPS://CHAT.EXAMPLE", None, "", "x" * 10_000):
        answer = ONE.answer_headers(origin)
        assert answer["vary"] == "Origin"
        assert ("access-control-allow-origin" in answer) is (origin == OURS)


def test_cors_with_no_origin_allowed_adds_no_headers() -> None:
    assert NONE.answer_headers(OURS) == NONE.preflight_headers(OURS, "POST", "authorization") == {}


def test_a_preflight_gets_the_methods_and_headers_that_it_requested() -> None:
    assert ANY.preflight_headers(OURS, "POST", "authorization, content-type,x-request-id") == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization, content-type,x-request-id",
        "access-control-max-age": "7200",
    }
    assert ONE.preflight_headers(THEIRS, "POST", "authorization") == {"vary": "Origin"}


@pytest.mark.parametrize("method", ["", "post", "POST, PUT", "POST\r\nX: y", "A" * 21, "\udcff"])
def test_cors_preflight_does_not_echo_a_malformed_method(method: str) -> None:
    assert "access-control-allow-methods" not in ANY.preflight_headers(OURS, method, None)


@pytest.mark.parametrize(
    "headers", ["", ",", "a,,b", "a b", "a\r\nb: c", "a;b", "x" * 65, "a" + ",a" * 64, "\udcff", "*"]
)
def test_cors_preflight_does_not_echo_malformed_headers(headers: str) -> None:
    assert "access-control-allow-headers" not in ANY.preflight_headers(OURS, "POST", headers)


@pytest.mark.parametrize(
    ("names", "added"),
    [
        ("", ""),
        ("retry-after-ms, X-Should-Retry,x-ratelimit-reset", ", retry-after-ms, X-Should-Retry, x-ratelimit-reset"),
        ("Retry-After, X-RECEIPT-ID , x-a, X-A", ", x-a"),
        ("*", ", *"),
        (", ,a b,x\r\ny,\udcff,(x),x-b", ", x-b"),
        ("x" * 101 + ",x-b", ", x-b"),
    ],
)
def test_cors_keeps_the_headers_that_the_response_already_exposes(names: str, added: str) -> None:
    assert with_exposed(names) == EXPOSED + added
    assert ANY.answer_headers(OURS, names)["access-control-expose-headers"] == EXPOSED + added
    assert ONE.answer_headers(OURS, names)["access-control-expose-headers"] == EXPOSED + added
    assert "access-control-expose-headers" not in ONE.answer_headers(THEIRS, names)
    assert with_exposed(with_exposed(names)) == with_exposed(names)


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_cors_exposed_headers_of_any_value_are_a_bounded_list_of_names(names: str) -> None:
    listed = with_exposed(names).split(", ")
    assert len({name.lower() for name in listed}) == len(listed) <= MAX_EXPOSED + 3
    assert all(name.isascii() and name.isprintable() and " " not in name for name in listed)
