"""The URL of search. Documented in docs/search.md."""

from django.urls import path, register_converter

from search.views import SearchViewSet


class Text:
    """Matches any text, including slashes, newlines and the empty text."""

    regex = r"[\s\S]*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(Text, "text")

# A trailing slash is part of the query, where it separates words.
urlpatterns = [path("search/<text:query>", SearchViewSet.as_view({"get": "list"}), name="search")]
