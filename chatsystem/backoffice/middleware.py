"""One switch for the middleware that only pages need: static files, sessions, users and messages."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.module_loading import import_string

#: The beginnings of the API's paths. A path of the API that is missing here works, and costs more.
API = ("/applications", "/search/")


class Pages:
    """Runs PAGE_MIDDLEWARE around every request that is not for the API.

    Each of them would cost an API request two calls, and sessions a query. None of them may have a `process_view` or
    another hook, because Django calls the hooks of MIDDLEWARE only.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.of_api = self.of_page = get_response
        for name in reversed(settings.PAGE_MIDDLEWARE):
            self.of_page = import_string(name)(self.of_page)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.of_api(request) if request.path_info.startswith(API) else self.of_page(request)
