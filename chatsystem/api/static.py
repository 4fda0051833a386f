"""Serves the static files of the admin and /docs. Errors are JSON. ConditionalGet handles conditional requests."""

from __future__ import annotations

import re
from typing import Any
from wsgiref.headers import Headers

from django.http import HttpRequest, HttpResponseBase
from whitenoise import responders
from whitenoise.middleware import WhiteNoiseMiddleware

from chatsystem.api.errors import method_not_allowed, range_not_satisfiable

#: First and last byte, from a byte to the end, or the last bytes. RFC 9110, 14.2 allows to ignore any other Range.
RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.IGNORECASE)


class StaticFile(responders.StaticFile):
    def is_not_modified(self, request_headers: dict[str, Any]) -> bool:
        """Returns False. whitenoise handles neither lists of ETags nor `*`, and its 304 lacks the page's policy."""
        return False

    def get_response(self, method: str, request_headers: dict[str, Any]) -> responders.Response:
        """Ignores a Range on HEAD, and one for another version of the file (If-Range)."""
        version = request_headers.get("HTTP_IF_RANGE", self.etag)
        if method != "GET" or version not in (self.etag, dict(self.alternatives[0][2])["Last-Modified"]):
            request_headers = {**request_headers, "HTTP_RANGE": ""}
        return super().get_response(method, request_headers)

    def get_range_response(self, range_header: str, base_headers: Any, file_handle: Any) -> responders.Response:
        """Returns 206 or 416. Raises ValueError to ignore the range. whitenoise itself rejects ranges of one byte."""
        size = int(dict(base_headers)["Content-Length"])
        match = RANGE.fullmatch(range_header.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(range_header)
        if match[3]:
            start, end = max(size - int(match[3]), 0), size - 1
        else:
            start, end = int(match[1]), min(int(match[2] or size), size - 1)
        if start > end:
            return self.get_range_not_satisfiable_response(file_handle, size)
        headers = [(name, value) for name, value in base_headers if name != "Content-Length"]
        headers += [("Content-Range", f"bytes {start}-{end}/{size}"), ("Content-Length", str(end - start + 1))]
        return responders.Response(206, headers, responders.SlicedFile(file_handle, start, end))


class StaticFiles(WhiteNoiseMiddleware):
    def get_static_file(self, path: str, url: str, stat_cache: Any = None) -> StaticFile:
        headers = Headers([])
        self.add_mime_headers(headers, path, url)
        self.add_cache_headers(headers, path, url)
        encodings = {"gzip": f"{path}.gz", "br": f"{path}.br"}
        return StaticFile(path, headers.items(), encodings, stat_cache)

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        if response.status_code < 400:
            return response
        refused = method_not_allowed(str(request.method)) if response.status_code == 405 else range_not_satisfiable()
        for name, value in response.headers.items():
            refused.headers[name] = value
        return refused
