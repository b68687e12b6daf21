"""Cuts bytes into pieces, anywhere."""

import itertools

from hypothesis import strategies as st

cuts = st.lists(st.integers(0, 600), max_size=40)
"""Offsets at which to cut, in bytes; offsets beyond the end have no effect."""


def cut(data: bytes, where: list[int]) -> list[bytes]:
    """The pieces, none of them empty."""
    edges = [0, *sorted({at for at in where if 0 < at < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
