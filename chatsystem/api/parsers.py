"""Reading a request's body: JSON in UTF-8 of at most 4 MB, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

from chatsystem.api.errors import PayloadTooLarge

BROKEN_OFF = "The request's body is broken off or malformed."
CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii"}


class _NotJSON(ValueError):
    pass


def _refuse_constant(name: str) -> None:
    raise _NotJSON(f"{name} is no value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a name that comes twice: nobody can tell which of its values was meant."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _NotJSON("an object names a member twice")
    return members


#: One for all requests: json.loads would make it anew for each.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)


class StrictJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Raises 413 past the limit, before the rest is read; 415 for another charset; 400 for what is not JSON."""
        request = (parser_context or {})["request"]
        charset = request.content_params.get("charset", "utf-8") if hasattr(request, "content_params") else "utf-8"
        if charset.strip("\"'").lower() not in CHARSETS:
            raise UnsupportedMediaType(request.content_type, "Send JSON in UTF-8.")
        content = read_capped(stream, settings.MAX_REQUEST_BYTES)
        # A client that broke off must not have written what it had sent by then, even where that looks whole.
        if "HTTP_TRANSFER_ENCODING" not in request.META and len(content) < int(request.META["CONTENT_LENGTH"]):
            raise ParseError(BROKEN_OFF)
        try:
            return _decoder.decode(content.decode("utf-8"))
        except RecursionError:
            # Not a ValueError: nesting past the interpreter's depth would otherwise be a 500.
            raise ParseError("The JSON is nested too deeply.") from None
        except (json.JSONDecodeError, _NotJSON) as error:
            raise ParseError(f"This is not JSON: {error}.") from None
        except UnicodeDecodeError as error:
            raise ParseError(f"This is not UTF-8: {error.reason} at byte {error.start}.") from None
        except ValueError:
            # The interpreter's own limit for the digits of a number.
            raise ParseError("The JSON holds a number that is too long.") from None


def read_capped(stream: IO[bytes], limit: int) -> bytes:
    """All of the stream, whether or not it announced its length (chunked); raises 413 at the first byte too many."""
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
    except Exception:  # each server has its own exceptions for a malformed chunk and for a client that is gone
        raise ParseError(BROKEN_OFF) from None
