"""The search route. Documented in docs/search.md."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from applications.selectors import get_application
from chats.selectors import get_chat
from chatsystem.api.access import require_admin_key
from chatsystem.api.errors import ServiceUnavailable
from chatsystem.api.links import link
from chatsystem.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from chatsystem.api.params import integer, invalid, single
from chatsystem.api.views import EntityViewSet
from search import queries, text
from search.backends.base import Scope, SearchUnavailable
from search.documents import Document
from search.serializers import HitSerializer


class SearchViewSet(EntityViewSet):
    serializer_class = HitSerializer

    def list(self, request: Request, query: str) -> Response:
        scope = _scope(request)
        limit = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT) or DEFAULT_LIMIT
        words = text.parse(query)
        try:
            page = queries.search(words, scope, limit, single(request, "cursor"))
        except queries.WrongCursor:
            raise invalid("cursor", "This is not a cursor that a page of this search gave.") from None
        except SearchUnavailable:
            raise ServiceUnavailable("Search cannot answer now. Try again.") from None
        return Response(
            {
                "count": page.count,
                "next": link(request, cursor=page.next) if page.next else None,
                "previous": link(request, cursor=page.previous) if page.previous else None,
                "results": [self.represent(_result(hit.document, words)) for hit in page.hits],
            }
        )


def _result(document: Document, words: text.Query) -> dict[str, Any]:
    return {
        "application_token": document.application_token,
        "chat_number": document.chat_number,
        "number": document.number,
        "body": document.body,
        "highlight": text.highlight(document.body, words),
        "created_at": document.created_at,
        "last_request_time": document.last_request_time,
    }


def _scope(request: Request) -> Scope:
    """What the request may see of what it asks for. Raises 400, 401 or 404."""
    token = single(request, "application")
    chat_number = integer(request, "chat", None, 1)
    if token is None:
        if chat_number is not None:
            raise invalid("chat", "A chat's number needs its application's token beside it.")
        require_admin_key(request)
    elif not token:
        raise invalid("application", "Give the token of an application.")
    elif chat_number is None:
        get_application(token)
    else:
        get_chat(token, chat_number)
    return Scope(token, chat_number)
