"""The request id, from the X-Request-ID header to every log line of the request. Documented in docs/logs.md.

docs/decisions.md says why no library does this.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

#: The id of the current request, or of the request that sent the current task; otherwise empty.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: An id that a client may send: a token of RFC 9110. It is copied into a header and into log lines.
SANE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


def given_or_new(header: str | None) -> str:
    """Returns the client's X-Request-ID, or a new id when it is missing or malformed."""
    return header if header and SANE.fullmatch(header) else secrets.token_hex(16)
