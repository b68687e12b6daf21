"""The log as JSON for machines (`LOG_FORMAT=json`): one object a line, whichever library has written it."""

import logging
from typing import Any, Final, Protocol, runtime_checkable

import structlog

SUBJECT: Final = "subject"
"""Attribute of a log record: what the line is about, if that has fields of its own."""


@runtime_checkable
class Subject(Protocol):
    """What a line may be about."""

    event: str

    def fields(self) -> dict[str, Any]:
        """What a machine wants to know, by name."""


def json_formatter(worker: int = 0) -> logging.Formatter:
    """Makes a line of JSON of every log record.

    Args:
        worker: Number of this worker, which every line has then; 0 for a process that is none.
    """
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _Fields(worker),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ]
    )


class _Fields:
    """Adds to a line what its record knows beside the message."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        record = line["_record"]
        client = getattr(record, "client", None)  # mitmproxy's: the peer's address and port
        if isinstance(client, tuple):
            line["client"] = f"{client[0]}:{client[1]}"
        if isinstance(subject := getattr(record, SUBJECT, None), Subject):
            line["event"] = subject.event
            line.update(subject.fields())
        if self._worker:
            line["worker"] = self._worker
        return line
