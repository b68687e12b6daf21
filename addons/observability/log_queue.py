"""Has mitmproxy's programs write their log through `LogOutput`, so that a blocked log cannot block the event loop."""

import sys
from typing import IO, Any

from mitmproxy import ctx

from addons.observability.log_output import LogOutput


class LogQueue:
    """Replaces the streams that mitmproxy's addons print to.

    Attributes:
        output: What they print to now; None where no stream was replaced.
    """

    def __init__(self) -> None:
        self.output: LogOutput | None = None

    def load(self, loader: object) -> None:  # noqa: ARG002  # the hook's signature
        """Find those streams: that of the log and, under mitmdump, that of its flow dump."""
        termlog, dumper = (ctx.master.addons.get(name) for name in ("termlog", "dumper"))
        if termlog is not None and _is_standard_output(termlog.logger.file):
            self.output = LogOutput(termlog.logger.file.fileno())
            termlog.logger.file = self.output
            if dumper is not None and _is_standard_output(dumper.outfp):
                dumper.outfp = self.output

    def dropped(self) -> int:
        """How many lines were dropped."""
        return self.output.dropped if self.output is not None else 0


def _is_standard_output(stream: IO[Any]) -> bool:
    return stream is sys.stdout and stream is sys.__stdout__
