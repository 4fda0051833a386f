"""Parses request bodies: JSON in UTF-8, at most 4 MB."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

from chatsystem.api.errors import PayloadTooLarge

BROKEN_OFF = "The request's body is truncated or malformed."
CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii"}
#: Values of Content-Encoding that do not encode the body.
CODINGS = {"", "identity"}


class _NotJSON(ValueError):
    pass


def _refuse_constant(name: str) -> None:
    raise _NotJSON(f"{name} is not a JSON value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises if a name is repeated, since it is unclear which value was meant."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _NotJSON("an object has a repeated name")
    return members


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)


class StrictJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Returns the parsed body. Raises 413 beyond the limit, 415 for another charset or an encoding, else 400."""
        request = (parser_context or {})["request"]
        headers = request.META
        if headers.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in CODINGS:
            raise UnsupportedMediaType(request.content_type, "Send the body without a Content-Encoding.")
        charset = getattr(request, "content_params", {}).get("charset", "utf-8")
        if charset.strip("\"'").lower() not in CHARSETS:
            raise UnsupportedMediaType(request.content_type, "Send JSON in UTF-8.")
        length = None if chunked(headers) else int(headers["CONTENT_LENGTH"])
        if length is not None and length > settings.MAX_REQUEST_BYTES:
            # The server has not received this body (chatsystem/server/worker.py).
            raise PayloadTooLarge
        content = read_capped(stream, settings.MAX_REQUEST_BYTES)
        # A truncated body must not be accepted, even if it happens to be valid JSON.
        if length is not None and len(content) < length:
            raise ParseError(BROKEN_OFF)
        try:
            return _decoder.decode(content.decode("utf-8"))
        except RecursionError:
            # RecursionError is not a ValueError. Without this, deep nesting would be a 500.
            raise ParseError("The JSON is nested too deeply.") from None
        except (json.JSONDecodeError, _NotJSON) as error:
            raise ParseError(f"This is not JSON: {error}.") from None
        except UnicodeDecodeError as error:
            raise ParseError(f"This is not UTF-8: {error.reason} at byte {error.start}.") from None
        except ValueError:
            # The interpreter limits the digits of a number.
            raise ParseError("The JSON holds a number that is too long.") from None


def chunked(headers: Mapping[str, Any]) -> bool:
    """Tells whether the body is chunked. Then CONTENT_LENGTH is not the client's (chatsystem/wsgi.py)."""
    return "HTTP_TRANSFER_ENCODING" in headers


def read_capped(stream: IO[bytes], limit: int) -> bytes:
    """Returns the whole stream. Raises 413 at the first byte beyond the limit, also for a chunked body."""
    chunks = []
    size = 0
    while chunk := _read(stream, min(65_536, limit + 1 - size)):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge
    return b"".join(chunks)


def _read(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except Exception:  # Each server has its own exceptions for a malformed chunk and a closed connection.
        raise ParseError(BROKEN_OFF) from None
