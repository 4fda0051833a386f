"""What comes in and goes out: JSON, or 415 and 406. Documented in docs/api.md."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.http import parse_header_parameters
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

# Both methods know the ValueError of a parameter that is written in a charset that does not exist.


class Negotiation(DefaultContentNegotiation):
    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        try:
            parser = super().select_parser(request, parsers)
            # DRF also takes `*/*`, which is no type that a body can have.
            if parser and parse_header_parameters(request.content_type)[0] == parser.media_type:
                return parser
        except ValueError:
            pass
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderers = list(renderers)
        if request.META.get("HTTP_ACCEPT", "*/*") == "*/*":
            # What nearly every client says: nothing to weigh.
            return renderers[0], renderers[0].media_type
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except ValueError:
            raise NotAcceptable(available_renderers=renderers) from None


class AnyAccept(BaseContentNegotiation):
    """For what has one format, whatever a scraper or a browser would like to have."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
