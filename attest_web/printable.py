"""Makes the text of another party safe to print."""

MAX_PRINTED = 400
"""Longest part of a text that is printed, in characters."""


def printable(text: str, at_most: int = MAX_PRINTED) -> str:
    """The text on one line and without control characters, so that its sender cannot forge a line of the output.

    Args:
        text: The text.
        at_most: Longest part that is printed, in characters.
    """
    text = text if len(text) <= at_most else text[:at_most] + "…"
    return "".join(character if character.isprintable() else "�" for character in text)
