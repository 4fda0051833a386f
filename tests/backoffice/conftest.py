"""Fixtures: a browser for the admin, which submits forms as a real one does."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client

FIELD = re.compile(r'<textarea name="([^"]+)"[^>]*>\n(.*?)</textarea>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
MESSAGE = re.compile(r'<li class="(?:success|info|warning|error)">(.*?)</li>', re.DOTALL)


class Browser:
    def __init__(self, user: User) -> None:
        self.client = Client(raise_request_exception=False)
        self.client.force_login(user)

    def page(self, path: str, **params: object) -> str:
        return self._read(self.client.get(f"/admin/{path}", params))

    def form(self, path: str) -> dict[str, str]:
        """Returns a page's form as a browser submits it unchanged, with \\r\\n for every newline."""
        page = self.page(path)
        fields = dict(HIDDEN.findall(page)) | dict(FIELD.findall(page))
        return {name: re.sub(r"\r\n|\r|\n", "\r\n", html.unescape(value)) for name, value in fields.items()}

    def post(self, path: str, data: dict[str, Any]) -> str:
        return self._read(self.client.post(f"/admin/{path}", data, follow=True))

    def save(self, path: str, **changes: str) -> str:
        return self.post(path, self.form(path) | changes)

    def act(self, path: str, action: str, rows: list[Any], **more: str) -> str:
        """Runs an action on the selected rows of a list."""
        return self.post(path, {"action": action, "_selected_action": [row.pk for row in rows], **more})

    @staticmethod
    def _read(response: HttpResponse) -> str:
        assert response.status_code == 200, response.status_code
        return response.content.decode()


def told(page: str) -> str:
    """Returns the messages on a page."""
    return html.unescape(" ".join(MESSAGE.findall(page)))


def listed(page: str) -> int:
    """Returns how many rows a list shows."""
    return page.count('class="action-checkbox"')


@pytest.fixture
def browser(api: object) -> Browser:
    """A superuser's browser."""
    return Browser(User.objects.create_superuser("admin"))


@pytest.fixture
def viewer(api: object, all_permissions: None) -> Browser:
    """The browser of a user with all view permissions and no others."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return Browser(user)
