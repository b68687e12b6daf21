import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.messages.redaction import redact

MARK = "XMARKX"


@given(st.text())
def test_redaction_cuts_text_at_its_first_quotation_mark(secret: str) -> None:
    assert redact(f"oh: '{secret}' and \"{secret}\"").startswith("oh: …")
    assert redact("before") == "before"


@pytest.mark.parametrize("address", ["('127.0.0.1', 9000)", "('::1', 9000, 0, 0)"])
def test_redaction_keeps_a_socket_address(address: str) -> None:
    text = redact(f"[Errno 111] Connect call failed {address}")
    assert "9000" in text
    assert "withheld" not in text


def test_redaction_cuts_an_address_inside_a_quote() -> None:
    assert MARK not in redact(f"oh: b\"{MARK} ('127.0.0.1', 9000)\"")
