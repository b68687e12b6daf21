"""Removes from a text what it may quote of a request or a response.

mitmproxy's log lines and errors quote what it cannot parse: a request line, a header with its token, a piece of a
response; inference servers' errors quote what they were sent. Most of these quotes are Python literals, so a text is
cut at its first quotation mark. This may also remove text that quotes nothing.
"""

import re

_ADDRESS = re.compile(r"\('([0-9A-Fa-f.:]{2,45})', (\d{1,5})(?:, \d+, \d+)?\)")

WITHHELD = "… (the rest is withheld: it may quote traffic)"


def redact(text: str) -> str:
    """A text up to its first quotation mark or back quote, and a note where there was one; socket addresses stay.

    Args:
        text: A log line, or the message of an error.
    """
    text = _ADDRESS.sub(r"(\1 port \2)", text)
    cut = min((at for at in map(text.find, "'\"`") if at >= 0), default=-1)
    return text if cut < 0 else text[:cut].removesuffix("b").removesuffix("bytearray(b") + WITHHELD
