"""Formats log lines as text or JSON, without tokens. Documented in docs/logs.md."""

from __future__ import annotations

import copy
import logging
import re
import time
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from chatsystem.logs.request_id import request_id

#: A token is the key to its application. A ticket begins with a hash that looks like one (live/tickets.py).
TOKEN = re.compile(r"[0-9a-f]{32}(?:(?:\.[\w-]+){4})?")

#: Record attributes that go into a JSON line, and the field's name there. Nothing else does: libraries add attributes
#: such as a request with its path, or a task with its arguments.
FIELDS = {
    "asctime": "time",
    "levelname": "level",
    "name": "logger",
    "message": "message",
    "request_id": "request_id",
    "method": "method",
    "route": "route",
    "status": "status",
    "statement": "statement",
    "partitions": "partitions",
    "events": "events",
    "seconds": "seconds",
    "exc_info": "exception",
}


class RequestIdFilter(logging.Filter):
    """Adds the current request's id to each record. Drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if name := request_id.get():
            record.request_id = name
        return True


class _WithoutTokens(logging.Formatter):
    """Removes tokens from every line, also from those of libraries.

    Django logs the path of a failed request, and a database error quotes the value that was refused.
    """

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        clean = copy.copy(record)
        clean.msg, clean.args = TOKEN.sub("…", record.getMessage()), None
        return super().format(clean)

    def formatException(self, ei: Any) -> str:
        return TOKEN.sub("…", super().formatException(ei))


class LineFormatter(_WithoutTokens):
    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        name = getattr(record, "request_id", "")
        return f"{line} [{name}]" if name else line


class JsonLineFormatter(_WithoutTokens, JsonFormatter):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {FIELDS[name]: value for name, value in log_data.items() if name in FIELDS}
