"""Describes the error statuses. Codes and details come from the answers themselves. Documented in docs/api.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from drf_standardized_errors.formatter import ExceptionFormatter
from rest_framework import exceptions, serializers

from chatsystem.api import errors
from chatsystem.api.openapi.parameters import headers
from chatsystem.api.query_params import invalid

#: What a body, a key and a list's parameters are refused with, and when.
NOT_JSON = exceptions.ParseError("This is not JSON: Expecting value: line 1 column 1 (char 0).")
BODY: dict[Any, str] = {NOT_JSON: "A body that is not JSON or not as described."}
KEY: dict[Any, str] = {
    invalid("Idempotency-Key", "Give 1 to 255 printable ASCII characters."): "An invalid Idempotency-Key."
}
PARAMETERS: dict[Any, str] = {
    invalid("limit", "Give a whole number from 1 to 1000."): "An invalid or repeated parameter.",
    exceptions.ParseError("Bad request."): "More than 1000 parameters.",
}


class ErrorEntry(serializers.Serializer):
    code = serializers.CharField(help_text="Stable. Programs should use it.")
    detail = serializers.CharField(help_text="For people. It may change.")
    attr = serializers.CharField(
        allow_null=True, help_text="The invalid field, parameter or header of a `validation_error`."
    )


class Error(serializers.Serializer):
    type = serializers.ChoiceField(["validation_error", "client_error", "server_error"])
    errors = serializers.ListField(child=ErrorEntry(), min_length=1)  # type: ignore[assignment]


def anywhere() -> dict[Any, str]:
    """Returns the answers that are the same on every route that has their status, and when they are given."""
    # Imported here: the module imports gunicorn, which most commands do not need.
    from chatsystem.server.responses import CLIENT_ERRORS, REQUEST_TIMEOUT

    of_server = {answer.status: answer for _, answer in CLIENT_ERRORS}
    return {
        errors.bad_request(HttpRequest(), Exception()): "An unknown host.",
        of_server[400]: "Malformed HTTP.",
        errors.AdminKeyRequired(): "`ADMIN_API_KEY` is set, and the request does not carry it.",
        exceptions.NotFound(): "There is no such application, chat or message, or a token or number in the path is"
        " malformed. The response does not say which.",
        exceptions.MethodNotAllowed("PUT"): "Any other method on this path.",
        exceptions.NotAcceptable(): "`Accept` excludes JSON. Nothing has been done.",
        REQUEST_TIMEOUT: "The request took over 20 seconds to arrive, or paused for 10 seconds behind the proxy. The"
        " server closes the connection.",
        errors.PreconditionFailed(): "A read of another version than `If-Match` names, or a write with `If-Match` or"
        " `If-None-Match`.",
        errors.PayloadTooLarge(): "The body is over 4 MB (4,194,304 bytes).",
        of_server[414]: "The request line is over 8,190 bytes. The server closes the connection.",
        exceptions.UnsupportedMediaType("text/plain"): "`Content-Type` is not JSON in UTF-8, or the request has a"
        " `Content-Encoding`.",
        of_server[417]: "`Expect` is not `100-continue`. The server closes the connection.",
        errors.IdempotencyKeyReused(): "The Idempotency-Key was used with another body, or on another route of the same"
        " application.",
        errors.rate_limited(1): "The application has exceeded its rate limit, where one is set. Nothing has been done.",
        of_server[431]: "A header is over 8,190 bytes. The server closes the connection.",
        errors.server_error(HttpRequest()): "A fault of the server.",
        errors.ServiceUnavailable(): "`service_unavailable`: the request cannot be served now, and nothing has been"
        " done.",
        errors.NoAnswer(): "`outcome_unknown`: no answer came in time. A write may have been accepted, or may still be."
        " Repeat a POST with the same Idempotency-Key.",
    }


def raised_by(attempt: Callable[[], object]) -> exceptions.ValidationError:
    """Returns what this attempt to validate an invalid body raises."""
    try:
        attempt()
    except exceptions.ValidationError as error:
        return error
    raise AssertionError("the description lists a valid body as invalid")


def sent(answer: Any) -> tuple[int, dict[str, Any]]:
    """Returns status and body of an exception, a response, or an answer of the server."""
    if isinstance(answer, exceptions.APIException):
        return answer.status_code, ExceptionFormatter(answer, {}, answer).run()  # type: ignore[typeddict-item]
    if isinstance(answer, HttpResponse):
        return answer.status_code, json.loads(answer.content)
    return answer.status, json.loads(answer.encode().partition(b"\r\n\r\n")[2])


def responses(answers: Mapping[Any, str]) -> dict[str, Any]:
    """Describes each status of these answers. Beside the common shape, it lists exactly the codes of the status."""
    bodies: dict[int, list[dict[str, Any]]] = defaultdict(list)
    texts: dict[int, list[str]] = defaultdict(list)
    for answer, text in answers.items():
        status, body = sent(answer)
        bodies[status].append(body)
        texts[status] += [text] if text else []
    return {str(status): _response(status, " ".join(texts[status]), bodies[status]) for status in bodies}


def _response(status: int, description: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    entries = [entry for body in bodies for entry in body["errors"]]
    entry: dict[str, Any] = {"code": {"enum": sorted({entry["code"] for entry in entries})}}
    if not any(entry["attr"] for entry in entries):
        entry["attr"] = {"type": "null"}
    types = {"enum": sorted({body["type"] for body in bodies})}
    schema = {
        "$ref": "#/components/schemas/Error",
        "properties": {"type": types, "errors": {"items": {"properties": entry}}},
    }
    examples = {
        f"{entry['code']} {entry['attr'] or ''}".strip(): {"value": body} for body in bodies for entry in body["errors"]
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"description": description, "headers": headers(status), "content": content}
