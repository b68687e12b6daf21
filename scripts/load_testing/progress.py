"""How far `scripts/loadtest` is: a line that is written anew in place on a terminal, else a line now and then."""

import asyncio
import os
from typing import TextIO

from scripts.load_testing.stats import Tally

_IN_PLACE = 0.25
_APART = 5.0
"""Seconds between two lines, on a terminal and elsewhere."""


class Progress:
    """Tells how far it is, until it is cancelled."""

    def __init__(self, tally: Tally, duration: float, stream: TextIO) -> None:
        """Say nothing yet.

        Args:
            tally: What to tell of.
            duration: Seconds for which chats are begun.
            stream: Where to tell it.
        """
        self._tally = tally
        self._duration = duration
        self._stream = stream
        self._in_place = stream.isatty()

    async def tell(self) -> None:
        """Tell it, again and again."""
        try:
            while True:
                await asyncio.sleep(_IN_PLACE if self._in_place else _APART)
                self._write(self.line())
        finally:
            if self._in_place:
                self._write("")

    def line(self) -> str:
        """How it stands."""
        tally = self._tally
        times = {"first token": tally.first_token, "between": tally.between_tokens}
        if not tally.first_token.count:
            times = {"answer": tally.answers}
        untrue = f", {tally.untrue} of them UNTRUE" if tally.untrue else ""
        failed = f"{tally.failures.total()} failed{untrue}"
        parts = [f"{tally.answered} answers, {tally.answered / tally.seconds:.1f}/s", failed]
        for name, durations in times.items():
            if durations.count:
                half, most = durations.quantile(0.5) or 0, durations.quantile(0.99) or 0
                parts.append(f"{name} p50 {half * 1000:.1f} p99 {most * 1000:.1f} ms")
        over = tally.seconds > self._duration
        when = f"{tally.under_way} to finish" if over else f"{tally.seconds:.0f} of {self._duration:g} s"
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
