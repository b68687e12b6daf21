"""Text of another party, made safe to print."""

MAX_PRINTED = 400
"""Characters of a text that are printed at most."""


def printable(text: str, at_most: int = MAX_PRINTED) -> str:
    """A text on one line and without control characters, with which its sender could forge a line of the output.

    Args:
        text: The text.
        at_most: Characters of it that are printed at most.
    """
    text = text if len(text) <= at_most else text[:at_most] + "…"
    return "".join(character if character.isprintable() else "�" for character in text)
