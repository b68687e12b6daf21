import pytest

from attest_web.response_ids import MAX_ID, is_path_segment, response_id, usable_id


@pytest.mark.parametrize("value", ["chatcmpl-1", "..", "a/b", "x" * MAX_ID, "ä"])
def test_a_string_that_utf_8_can_carry_is_a_usable_id(value: str) -> None:
    assert usable_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * (MAX_ID + 1), "\ud800", 7, None, ["x"]])
def test_an_empty_too_long_or_unencodable_value_is_no_usable_id(value: object) -> None:
    assert usable_id(value) is None


@pytest.mark.parametrize(
    "hostile", [".", "..", "../attestation/report", "a/b", "a\\b", "a\nb", "\x7f", "", "\udc80", 7]
)
def test_an_id_that_would_change_the_path_of_a_url_is_not_a_path_segment(hostile: object) -> None:
    """A URL with the token is made of it, and httpx takes `..` out of paths."""
    assert not is_path_segment(hostile)


@pytest.mark.parametrize("value", ["chatcmpl-1", "...", "gen:1?x=ä %2F", "x" * MAX_ID])
def test_an_id_without_slashes_is_a_path_segment(value: str) -> None:
    assert is_path_segment(value)


def test_the_response_id_is_an_objects_own_before_that_of_its_response_or_message() -> None:
    assert response_id({"id": "own", "response": {"id": "inner"}}) == "own"
    assert response_id({"id": "a/b", "response": {"id": "inner"}}) == "inner"
    assert response_id({"message": {"id": "msg"}}) == "msg"
    assert response_id({"response": "text"}) is None
