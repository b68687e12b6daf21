"""Predicates of JSON values, for an allow-list.

A shape is true for the values of its form, and false for all others: another type, another member, another literal.
"""

import math
from collections.abc import Callable, Mapping

Shape = Callable[[object], bool]
"""Whether a value, as `json.loads` makes it, has this shape."""


def anything(_value: object) -> bool:
    """Any value."""
    return True


def null(value: object) -> bool:
    """`null`."""
    return value is None


def text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def count(value: object) -> bool:
    """An integer from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: object) -> bool:
    """A number; not `NaN` nor an infinity, which JSON does not have."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def empty(value: object) -> bool:
    """An empty list."""
    return isinstance(value, list) and not value


def literal(*allowed: str) -> Shape:
    """One of these strings."""
    return lambda value: isinstance(value, str) and value in allowed


def either(*shapes: Shape) -> Shape:
    """A value of one of these shapes."""
    return lambda value: any(shape(value) for shape in shapes)


def optional(shape: Shape) -> Shape:
    """A value of this shape, or `null`."""
    return either(null, shape)


def list_of(shape: Shape) -> Shape:
    """A list whose items are all of this shape."""
    return lambda value: isinstance(value, list) and all(map(shape, value))


def filled_list_of(shape: Shape) -> Shape:
    """A list with at least one item, whose items are all of this shape."""
    return lambda value: value != [] and list_of(shape)(value)


def values_of(shape: Shape) -> Shape:
    """An object with members of any name that are all of this shape."""
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def members(allowed: Mapping[str, Shape], *required: str) -> Shape:
    """An object with no other members than these, each of its shape.

    Args:
        allowed: Shapes by the member's name.
        required: Names of the required members.
    """
    return lambda value: (
        isinstance(value, dict)
        and all(name in value for name in required)
        and all(name in allowed and allowed[name](inner) for name, inner in value.items())
    )
