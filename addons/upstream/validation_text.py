"""Removes quotes of the input from Pydantic's validation texts.

Inference servers put these texts into their error messages, in one of three forms:

    1 validation error for Chat
    temperature
      Input should be a valid number [type=float_parsing, input_value='hot', input_type=str]

    [{'type': 'value_error', 'loc': ('body', 'n'), 'msg': 'Value error', 'input': 1, 'ctx': {'error': ValueError()}}]

    {"detail": [{"type": "missing", "loc": ["body", "n"], "msg": "Field required", "input": {"model": "hot"}}]}

`input_value`, `input` and `ctx` contain what a client has sent. Each is cut out up to its end: in the first form, the
end of the line, as a newline in a quoted value is escaped; in the others, the end of a literal of Python or JSON, in
which quotation marks are escaped. If the end is not certain, the rest of the text is removed.
"""

import re

CUT = " …"
"""Replaces each part that was cut out."""

_QUOTES = re.compile(
    r"""\binput(?:_value)?= | (?P<mark>(?P<escaped>\\*)['"])(?:input(?:_value)?|ctx)(?P=mark)\s*:\s*""", re.VERBOSE
)
_TYPE_BEHIND = re.compile(r", input_type=[\w.]+\]\s*\Z")

_ITEM = re.compile(
    r"""
    b?'(?:[^'\\]|\\.)*+' | b?"(?:[^"\\]|\\.)*+"          # a string, or bytes
    | -?[0-9][0-9.e+\-]* | -?(?:inf|Infinity)\b | (?:nan|NaN)\b
    | (?:True|False|None|true|false|null)\b
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_BETWEEN = re.compile(r"[\s,:]+|[A-Za-z_]\w*=")
"""The text between the items of a collection, and before the arguments of a call."""
_CALL = re.compile(r"[A-Za-z_][\w.]*(?=\()")
"""The name of a class, in the representation of an object: `ValueError('…')`."""
_SPACE = re.compile(r"\s*")
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}


def without_input(text: str) -> str:
    """A text without its quotes of a client's input.

    Args:
        text: An error message; it is returned unchanged if it quotes nothing.
    """
    kept: list[str] = []
    at = 0
    while (found := _QUOTES.search(text, at)) is not None:
        before = text[at : found.start()].rstrip(" ,[{(")
        kept.append(before + CUT if before or not kept else "")
        if found["mark"] is None:
            end: int | None = _end_of_argument(text, found.end())
        else:
            end = None if found["escaped"] else end_of_literal(text, found.end())
        if end is None:
            return "".join(kept)
        at = end
    return "".join([*kept, text[at:]])


def _end_of_argument(text: str, at: int) -> int:
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    behind = _TYPE_BEHIND.search(text, at, line_end)
    return line_end if behind is None else behind.start()


def end_of_literal(text: str, at: int) -> int | None:
    """The end of the literal of Python or JSON that begins at `at`; None if there is none, or it is incomplete."""
    closers: list[str] = []
    while at < len(text):
        at = _matched(_SPACE, text, at) or at
        if text[at : at + 1] in _CLOSED_BY:
            closers.append(_CLOSED_BY[text[at]])
            at += 1
            continue
        if closers and text[at : at + 1] == closers[-1]:
            closers.pop()
            at += 1
        elif (end := _matched(_ITEM, text, at)) is not None:
            at = end
        elif (end := _matched(_CALL, text, at) or (_matched(_BETWEEN, text, at) if closers else None)) is not None:
            at = end
            continue
        else:
            return None
        if not closers:
            return at
    return None


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int | None:
    found = pattern.match(text, at)
    return None if found is None else found.end()
