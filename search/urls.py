"""The search route. Documented in docs/search.md."""

from django.urls import path, register_converter

from search.views import SearchViewSet


class Text:
    """Whatever was sent, slashes and newlines too. Nothing as well: a query without a word finds nothing."""

    regex = r"[\s\S]*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(Text, "text")

# A trailing slash is part of the query, and no part of a word.
urlpatterns = [path("search/<text:query>", SearchViewSet.as_view({"get": "list"}), name="search")]
