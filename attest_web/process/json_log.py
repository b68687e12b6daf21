"""The log as JSON (`LOG_FORMAT=json`): one object a line, of all libraries."""

import logging
from typing import Any, Final, Protocol, runtime_checkable

import structlog

SUBJECT: Final = "subject"
"""Attribute of a log record with an object whose fields are added to the line."""


@runtime_checkable
class Subject(Protocol):
    """An object with fields for the log."""

    event: str

    def fields(self) -> dict[str, Any]:
        """The fields, by name."""


def json_formatter(worker: int = 0) -> logging.Formatter:
    """Formats log records as JSON.

    Args:
        worker: Number of this worker, for a field of every line; 0 for a single process.
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
    """Adds the record's attributes to a line."""

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
