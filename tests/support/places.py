"""Helpers of the contract tests: places to post to, the error shape, and a check that nothing has changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from rest_framework.test import APIClient

from tests.support.harness import Tenant

#: A time as every representation gives it: UTC, always six digits.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

FIELD = "FIELD"
#: Well-formed, and nobody's.
UNKNOWN_TOKEN = "0" * 32


@dataclass(frozen=True)
class Kind:
    """One of the three kinds of entity, with its contract."""

    name: str
    field: str
    longest: int
    keys: tuple[str, ...]


APPLICATION = Kind("application", "name", 255, ("token", "name", "chats_count", "created_at", "last_request_time"))
CHAT = Kind("chat", "title", 255, ("number", "title", "messages_count", "created_at", "last_request_time"))
MESSAGE = Kind("message", "body", 16_000, ("number", "body", "created_at", "last_request_time"))
KINDS = {kind.name: kind for kind in (APPLICATION, CHAT, MESSAGE)}


@dataclass
class Place:
    """A route where entities of one kind are created and listed."""

    api: APIClient
    kind: Kind
    path: str

    def send(self, text: Any = "text", **headers: str) -> HttpResponse:
        return self.api.post(self.path, {self.kind.field: text}, format="json", headers=headers)

    def send_raw(self, content: bytes, content_type: str = "application/json", **headers: str) -> HttpResponse:
        return self.api.generic("POST", self.path, content, content_type, headers=headers)

    def create(self, text: str = "text", **headers: str) -> dict[str, Any]:
        response = self.send(text, **headers)
        assert response.status_code == 201, response.content
        return response.json()

    def item(self, entity: dict[str, Any]) -> str:
        """Returns the path of an entity."""
        return f"{self.path}/{entity['token' if self.kind is APPLICATION else 'number']}"

    def read(self, entity: dict[str, Any]) -> dict[str, Any]:
        response = self.api.get(self.item(entity))
        assert response.status_code == 200, response.content
        return response.json()

    def change(self, entity: dict[str, Any], text: str) -> dict[str, Any]:
        response = self.api.patch(self.item(entity), {self.kind.field: text}, format="json")
        assert response.status_code == 200, response.content
        return response.json()


def place_of(kind: str, tenant: Tenant) -> Place:
    """Returns the route of the tenant's entities. Messages are in chat 1, which is created if needed."""
    path = "/applications"
    if kind != "application":
        path = f"{tenant.path}/chats"
    if kind == "message":
        if tenant.api.get(f"{tenant.path}/chats/1").status_code == 404:
            tenant.chat()
        path += "/1/messages"
    return Place(tenant.api, KINDS[kind], path)


def local(url: str) -> str:
    """Returns path and query of an absolute URL of the product."""
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("http", "testserver"), url
    return parts.path + (f"?{parts.query}" if parts.query else "")


def assert_error(response: Any, status: int, code: str, attr: str | None = None) -> dict[str, Any]:
    """Asserts the error shape: exactly its keys, as JSON, this status, and code and attr of the first error."""
    content = response.content
    assert response.status_code == status, content[:500]
    assert response.headers["Content-Type"] == "application/json", content[:500]
    answer = json.loads(content)
    assert set(answer) == {"type", "errors"}
    kind = "server_error" if status >= 500 else "validation_error" if attr else "client_error"
    assert answer["type"] == kind
    assert all(set(error) == {"code", "detail", "attr"} for error in answer["errors"])
    first = answer["errors"][0]
    assert (first["code"], first["attr"]) == (code, attr), answer
    assert isinstance(first["detail"], str)
    assert first["detail"]
    return answer


def everything() -> dict[str, Any]:
    """Returns all state of the product: the keys and values of the state Redis, and the rows of each table."""
    raw = redis.Redis(unix_socket_path=str(settings.DATA_DIR.redis_socket))
    try:
        # This key expires by itself.
        raw.delete(*raw.keys("*:hinted"), "none")
        names = raw.keys()
        # One by one, hundreds of keys would take most of a test's time.
        pipeline = raw.pipeline(transaction=False)
        for name in names:
            pipeline.dump(name)
        remembered: dict[str, Any] = {
            name.decode(): value for name, value in zip(names, pipeline.execute(), strict=True)
        }
    finally:
        raw.close()
    with connection.cursor() as cursor:
        for table in ("applications_application", "chats_chat", "messages_app_message", "writelog_deadevent"):
            cursor.execute(f"SELECT * FROM {table} ORDER BY id")
            remembered[table] = cursor.fetchall()
    return remembered


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    before = everything()
    yield
    assert everything() == before


def refused(
    place: Place, act: Callable[[Place], Any], status: int, code: str, attr: str | None = None
) -> dict[str, Any]:
    """Asserts that `act` is answered by this error, changes nothing and consumes no number.

    FIELD as `attr` means the name of the place's field.
    """
    before = place.create("before")
    with nothing_left_behind():
        answer = assert_error(act(place), status, code, place.kind.field if attr == FIELD else attr)
    after = place.create("after")
    if "number" in before:
        assert after["number"] == before["number"] + 1
    return answer


def each_refuses(
    places: list[Place], act: Callable[[Place], Any], status: int, code: str, attr: str | None = None
) -> None:
    for place in places:
        refused(place, act, status, code, attr)
