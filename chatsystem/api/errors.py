"""Errors, in one shape for every status, whichever layer answers. Documented in docs/api.md.

`{"type": "validation_error" | "client_error" | "server_error", "errors": [{"code", "detail", "attr"}]}`
"""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from rest_framework import status
from rest_framework.exceptions import APIException, MethodNotAllowed


class ServiceUnavailable(APIException):
    """503: the request cannot be served now, and nothing has been done. `wait` is Retry-After, in seconds."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The service cannot answer this now. Try again."
    default_code = "service_unavailable"
    wait = 1


class NoAnswer(ServiceUnavailable):
    """503: whether the write was accepted is unknown. Repeating it with the same key tells."""

    default_detail = "The service did not answer. Repeat the request, a POST with the same Idempotency-Key."
    default_code = "outcome_unknown"


class AdminKeyRequired(APIException):
    """401. DRF turns its own NotAuthenticated into 403 where a view has no authentication classes."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "This route needs 'Authorization: Bearer' with the admin key."
    default_code = "not_authenticated"
    auth_header = "Bearer"


class PreconditionFailed(APIException):
    """412: a conditional write. append.lua does not compare versions."""

    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "A write cannot depend on a version. Send it without If-Match and If-None-Match."
    default_code = "precondition_failed"


class PayloadTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request body is larger than 4 MB."
    default_code = "payload_too_large"


class IdempotencyKeyReused(APIException):
    """422: the key was used for another request, whose response must not be returned."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_detail = "This Idempotency-Key was used with another request."
    default_code = "idempotency_key_reused"


def rate_limited(wait: int) -> JsonResponse:
    """Returns 429, for the middleware. `wait` is Retry-After, in seconds."""
    response = _answer(429, "rate_limited", "Too many requests of this application. Try again later.")
    response.headers["Retry-After"] = str(wait)
    return response


def precondition_failed() -> JsonResponse:
    """Returns 412 for a read, for the middleware."""
    return _answer(412, "precondition_failed", "The stored version does not meet the request's precondition.")


def range_not_satisfiable() -> JsonResponse:
    return _answer(416, "range_not_satisfiable", "The requested range is outside the file.")


def method_not_allowed(method: str) -> JsonResponse:
    """Returns 405, where no DRF view answers."""
    return _answer(405, "method_not_allowed", str(MethodNotAllowed(method).detail))


def _answer(status_code: int, code: str, detail: str) -> JsonResponse:
    kind = "server_error" if status_code >= 500 else "client_error"
    error = {"code": code, "detail": detail, "attr": None}
    # Caches may store a 404 unless told otherwise (RFC 9110, 15.5.5).
    headers = {"Cache-Control": "no-cache"}
    # Byte for byte like DRF's renderer, so that a 404 does not reveal whether a route or an entity is missing.
    compact = {"separators": (",", ":")}
    response = JsonResponse(
        {"type": kind, "errors": [error]}, status=status_code, headers=headers, json_dumps_params=compact
    )
    # CommonMiddleware sets this header only for responses of the layers below it.
    response.headers["Content-Length"] = str(len(response.content))
    return response


# Django's error handlers, for requests that no DRF view answers. chatsystem.urls names them.


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(400, "bad_request", "Bad request.")


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(403, "permission_denied", "Permission denied.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(404, "not_found", "Not found.")


def server_error(request: HttpRequest) -> JsonResponse:
    return _answer(500, "error", "Server error.")
