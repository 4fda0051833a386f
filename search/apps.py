from django.apps import AppConfig


class SearchConfig(AppConfig):
    name = "search"

    def ready(self) -> None:
        from chatsystem.search_interface import register
        from search import checks, receivers  # noqa: F401  (connects them)
        from search.provider import Provider

        register(Provider())
