"""Keeps prompts and responses out of the logs, at every verbosity.

The log lines and errors of mitmproxy quote what it cannot parse, and with `proxy_debug` everything: they are redacted
(`addons.messages.redaction`). Exceptions keep their type and their frames, and lose their message.
"""

import logging
import traceback
from types import TracebackType
from typing import Any

from mitmproxy import flow as mitm_flow
from mitmproxy import http

from addons.messages.redaction import redact

LIBRARIES = ("mitmproxy", "asyncio", "h2", "hpack", "hyperframe", "tornado", "werkzeug")
"""Prefixes of loggers whose lines are redacted: those of all libraries that process traffic."""

STARTERS = ("mitmproxy.addons.proxyserver", "mitmproxy.proxy.mode_servers", "mitmproxy.tools")
"""Loggers among them that log only ports and options, which are needed completely when a start fails."""


def describe(error: BaseException, tb: TracebackType | None) -> str:
    """An exception by its type and where it was raised, without its message and without the lines of source."""
    frames = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(tb)]
    return "\n".join([f"{type(error).__name__} (its message is withheld: it may quote traffic)", *frames])


class LogPrivacy:
    """Sanitises every log record of this process as it is made, and the error of every flow."""

    def __init__(self) -> None:
        self._original_factory = logging.getLogRecordFactory()

    def load(self, loader: object) -> None:  # noqa: ARG002  # the hook's signature
        """Start, until the process ends: connections still log after the addons are done."""
        factory = logging.getLogRecordFactory()
        if not isinstance(getattr(factory, "__self__", None), LogPrivacy):  # the script may be loaded again
            self._original_factory = factory
            logging.setLogRecordFactory(self._make_record)

    def error(self, flow: http.HTTPFlow) -> None:
        """Sanitise the error that mitmproxy shows beside a flow."""
        if flow.error is not None:
            flow.error = mitm_flow.Error(redact(flow.error.msg), flow.error.timestamp)

    def _make_record(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._original_factory(*args, **kwargs)
        name = record.name or ""  # None in the blank records that `logging.makeLogRecord` fills by itself
        if name.startswith(LIBRARIES) and not name.startswith(STARTERS):
            record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            error, tb = record.exc_info[1], record.exc_info[2]
            message = record.getMessage()
            if said := str(error):
                message = message.replace(said, type(error).__name__)
            record.msg, record.args = f"{message}\n{describe(error, tb)}", None
            record.exc_info = None
        return record
