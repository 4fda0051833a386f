"""The request's id: from its header to every line that is logged because of it. Documented in docs/operations.md."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

#: Of the request that is answered now, or that asked for the task at hand; empty outside of both.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: What a client may call its request: a token of RFC 9110. It goes into a header and into lines, as it is.
SANE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


def given_or_new(header: str | None) -> str:
    """The client's X-Request-ID, or one of ours when it sent none, or none that is sane."""
    return header if header and SANE.fullmatch(header) else secrets.token_hex(16)
