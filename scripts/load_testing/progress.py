"""The progress of `scripts/loadtest`: a line that is rewritten in place on a terminal, else a line now and then."""

import asyncio
import os
from typing import TextIO

from scripts.load_testing.stats import Stats

_IN_PLACE = 0.25
_APART = 5.0
"""Seconds between two lines, on a terminal and elsewhere."""


class Progress:
    """Prints the progress, until it is cancelled."""

    def __init__(self, stats: Stats, duration: float, stream: TextIO) -> None:
        """Prepare; nothing is printed yet.

        Args:
            stats: The statistics to print.
            duration: Seconds for which chats are begun.
            stream: Where to print them.
        """
        self._stats = stats
        self._duration = duration
        self._stream = stream
        self._in_place = stream.isatty()

    async def tell(self) -> None:
        """Print the line repeatedly."""
        try:
            while True:
                await asyncio.sleep(_IN_PLACE if self._in_place else _APART)
                self._write(self.line())
        finally:
            if self._in_place:
                self._write("")

    def line(self) -> str:
        """The line."""
        stats = self._stats
        times = {"first token": stats.first_token, "between": stats.between_tokens}
        if not stats.first_token.count:
            times = {"answer": stats.answers}
        untrue = f", {stats.untrue} of them UNTRUE" if stats.untrue else ""
        failed = f"{stats.failures.total()} failed{untrue}"
        parts = [f"{stats.answered} answers, {stats.answered / stats.seconds:.1f}/s", failed]
        for name, durations in times.items():
            if durations.count:
                half, most = durations.quantile(0.5) or 0, durations.quantile(0.99) or 0
                parts.append(f"{name} p50 {half * 1000:.1f} p99 {most * 1000:.1f} ms")
        over = stats.seconds > self._duration
        when = f"{stats.under_way} to finish" if over else f"{stats.seconds:.0f} of {self._duration:g} s"
        return f"loadtest: {when}: {', '.join(parts)}"

    def _write(self, line: str) -> None:
        if self._in_place:
            width = os.get_terminal_size(self._stream.fileno()).columns or 80
            # Carriage return, and erase to the end of the line (ECMA-48, CR and EL).
            line = f"\r\x1b[K{line[: width - 1]}"
        else:
            line += "\n"
        self._stream.write(line)
        self._stream.flush()
