"""One error shape for every status, whoever answers. Documented in docs/api.md.

`{"type": "validation_error" | "client_error" | "server_error", "errors": [{"code", "detail", "attr"}]}`
"""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from rest_framework import status
from rest_framework.exceptions import APIException


class ServiceUnavailable(APIException):
    """503: cannot be done now, and nothing has happened. `wait` is the number of seconds for Retry-After."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The service cannot answer this now. Try again."
    default_code = "service_unavailable"
    wait = 1


class NoAnswer(ServiceUnavailable):
    """503: whether the write was accepted is not known. The same key tells, sent again."""

    default_detail = "The service did not answer. Repeat the request, a POST with the same Idempotency-Key."
    default_code = "outcome_unknown"


class AdminKeyRequired(APIException):
    """401. Not DRF's NotAuthenticated, which DRF turns into a 403 where there are no authentication classes."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "This route needs 'Authorization: Bearer' with the admin key."
    default_code = "not_authenticated"
    auth_header = "Bearer"


class PayloadTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request body is larger than 4 MB."
    default_code = "payload_too_large"


class IdempotencyKeyReused(APIException):
    """The key was used for another request: answering it would hand out somebody else's result."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_detail = "This Idempotency-Key was used with another request."
    default_code = "idempotency_key_reused"


def rate_limited(wait: int) -> JsonResponse:
    """429, by the middleware. `wait` is the number of seconds for Retry-After."""
    response = _answer(429, "rate_limited", "Too many requests of this application. Try again later.")
    response.headers["Retry-After"] = str(wait)
    return response


def _answer(status_code: int, code: str, detail: str) -> JsonResponse:
    kind = "server_error" if status_code >= 500 else "client_error"
    error = {"code": code, "detail": detail, "attr": None}
    # A 404 may be kept by caches like any answer, unless it says otherwise (RFC 9110, 15.5.5).
    headers = {"Cache-Control": "no-cache"}
    # To the byte as DRF's renderer writes it: a 404 does not tell whether a route or an entity was missing.
    compact = {"separators": (",", ":")}
    return JsonResponse(
        {"type": kind, "errors": [error]}, status=status_code, headers=headers, json_dumps_params=compact
    )


# Django's own handlers, for what no view of DRF answers (named in chatsystem.urls).


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(400, "bad_request", "Bad request.")


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(403, "permission_denied", "Permission denied.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(404, "not_found", "Not found.")


def server_error(request: HttpRequest) -> JsonResponse:
    return _answer(500, "error", "Server error.")
