from attest_web.printable import printable


def test_control_characters_and_line_ends_are_replaced() -> None:
    assert printable("a\nb\x1b[2K\u202e\u2713") == "a\ufffdb\ufffd[2K\ufffd\u2713"


def test_a_long_text_is_cut_at_the_bound() -> None:
    assert printable("x" * 11, 10) == "x" * 10 + "\u2026"
    assert printable("x" * 10, 10) == "x" * 10
