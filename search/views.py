"""The search route. Documented in docs/search.md."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from applications.selectors import get_application
from chats.selectors import get_chat
from chatsystem.api.authentication import require_admin_key
from chatsystem.api.errors import ServiceUnavailable
from chatsystem.api.pagination import CursorPage
from chatsystem.api.query_params import integer, invalid, single
from chatsystem.api.viewsets import EntityViewSet
from search.backends import get_backend
from search.backends.base import Hit, Scope, SearchUnavailable
from search.documents import Document
from search.highlight import highlight
from search.serializers import HitSerializer
from search.tokenizer import Query, parse

#: Limits of one page: seconds for its highlights, and bytes of its texts and highlights, which take as long again to
#: send. A thousand long texts would occupy a web process for a minute and slow down its other requests.
HIGHLIGHT_SECONDS = 1.5
PAGE_BYTES = 40_000_000


class SearchViewSet(EntityViewSet):
    serializer_class = HitSerializer

    def list(self, request: Request, query: str) -> Response:
        """Searches messages by word prefixes.

        Each word of the query is a prefix of a word in the body. All words must match, in any order. Case and accents
        are ignored. A run of Chinese or Japanese characters matches as a substring. Punctuation, including slashes,
        separates words and is never syntax. A query without a word finds nothing. Best match first, newest first among
        equals. A message is found about a second after it was posted.
        """
        scope = _scope(request)
        parsed = parse(query)
        meaning = [settings.SEARCH_BACKEND, parsed.prefixes, parsed.phrases, scope.application_token, scope.chat_number]
        page = CursorPage.of(request, "search", *meaning)
        try:
            found = get_backend().search(parsed, scope, page.limit, after=page.after, before=page.before)
        except SearchUnavailable:
            raise ServiceUnavailable("Search is unavailable. Try again.") from None
        return Response(
            {
                "count": found.count,
                **page.links([hit.position for hit in found.page], found.more),
                "results": [self.represent(result) for result in _results(found.page, parsed)],
            }
        )


def _results(hits: Sequence[Hit], query: Query) -> Iterator[dict[str, Any]]:
    """Yields the results. Raises 503 if the page is too slow or too large; a page of one hit always succeeds."""
    deadline = time.monotonic() + HIGHLIGHT_SECONDS
    taken = 0
    for number, hit in enumerate(hits):
        result = _result(hit.document, query)
        taken += len(result["body"].encode()) + len(result["highlight"].encode())
        if number and (taken > PAGE_BYTES or time.monotonic() > deadline):
            raise ServiceUnavailable("The texts of this page are too long. Request fewer with 'limit'.")
        yield result


def _result(document: Document, query: Query) -> dict[str, Any]:
    return {
        "application_token": document.application_token,
        "chat_number": document.chat_number,
        "number": document.number,
        "body": document.body,
        "highlight": highlight(document.body, query),
        "created_at": document.created_at,
        "last_request_time": document.last_request_time,
    }


def _scope(request: Request) -> Scope:
    """Returns the scope of the request. Raises 400, 401 or 404."""
    token = single(request, "application")
    chat_number = integer(request, "chat", None, 1)
    if token is None:
        if chat_number is not None:
            raise invalid("chat", "This parameter requires 'application'.")
        require_admin_key(request)
    elif not token:
        raise invalid("application", "Give an application's token.")
    elif chat_number is None:
        get_application(token)
    else:
        get_chat(token, chat_number)
    return Scope(token, chat_number)
