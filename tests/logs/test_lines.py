"""The contents of log lines, as text and as JSON, whoever writes them."""

from __future__ import annotations

import io
import json
import logging
from logging.config import dictConfig
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from rest_framework.test import APIClient

from applications.models import Application
from chatsystem.logs import config
from chatsystem.logs.request_id import request_id
from messages_app.views import MessageViewSet
from tests.support.harness import Tenant

NEW = 32


@pytest.fixture(params=["line", "json"])
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that returns what has been logged, in one of the formats."""
    monkeypatch.setenv("LOG_FORMAT", request.param)
    dictConfig(config.from_environ())
    [console] = [handler for handler in logging.getLogger().handlers if handler.name == "console"]
    assert isinstance(console, logging.StreamHandler)
    stream = io.StringIO()
    console.setStream(stream)
    yield stream.getvalue
    dictConfig(django_settings.LOGGING)


@pytest.mark.parametrize("sane", ["1", "a" * 128, "0f8fad5b-d9cb-469f-a165-70867728950e", "Web!#$%&'*+-.^_`|~9"])
def test_the_answer_repeats_the_clients_id(api: APIClient, sane: str) -> None:
    assert api.get("/health/live", headers={"X-Request-ID": sane})["X-Request-ID"] == sane


@pytest.mark.parametrize("odd", ["", "a" * 129, "a b", "a\tb", "a,b", '"a"', "a\nb", "ä"])
def test_a_malformed_id_is_replaced(api: APIClient, odd: str) -> None:
    answered = api.get("/health/live", headers={"X-Request-ID": odd})["X-Request-ID"]

    assert len(answered) == NEW
    assert answered != odd


def test_requests_without_an_id_get_different_ones(api: APIClient) -> None:
    assert api.get("/health/live")["X-Request-ID"] != api.get("/nowhere")["X-Request-ID"]
    assert request_id.get() == ""


def test_a_failed_request_is_logged_with_its_id_and_traceback_but_not_its_path(
    ours: Tenant, printed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError(f"nobody expects {ours.token}")

    monkeypatch.setattr(MessageViewSet, "list", fail)

    answer = ours.api.get(f"{ours.path}/chats/1/messages", headers={"X-Request-ID": "the-failed-one"})

    text = printed()
    assert answer.status_code == 500
    assert answer["X-Request-ID"] == "the-failed-one"
    assert "the-failed-one" in text
    assert "answered 500 at applications/<token:token>/chats/<number:chat_number>/messages" in text
    assert "builtins.RuntimeError" in text
    assert "nobody expects {ours.token}" in text, "the line it came from"
    assert ours.token not in text


def test_attributes_of_libraries_stay_out_of_json(printed: Any) -> None:
    logging.getLogger("a.library").warning("careful: %s", "ß", extra={"request": "GET /secret", "partitions": 7})

    text = printed()
    assert "secret" not in text
    assert "careful: ß" in text
    if text.startswith("{"):
        assert json.loads(text)["partitions"] == 7


def test_a_slow_statement_is_logged_without_its_values(ours: Tenant, drained: Any, printed: Any, settings: Any) -> None:
    drained()
    settings.SLOW_QUERY_SECONDS = 0

    assert Application.objects.filter(name__in=["ours", "theirs", "somebody's"]).count() == 1

    text = printed()
    assert "slow query: 0.0" in text
    assert "IN (%s, …)" in text
    assert "theirs" not in text


def test_only_slow_requests_and_drains_are_logged(ours: Tenant, drained: Any, printed: Any, settings: Any) -> None:
    settings.SLOW_REQUEST_SECONDS = settings.SLOW_QUERY_SECONDS = settings.SLOW_DRAIN_SECONDS = 60
    ours.chat()
    drained()
    assert printed() == ""

    settings.SLOW_REQUEST_SECONDS = settings.SLOW_QUERY_SECONDS = settings.SLOW_DRAIN_SECONDS = 0
    ours.chat()
    drained()
    assert "slow request: POST applications/<token:token>/chats answered 201 in 0." in printed()
    assert "slow drain: 1 partitions, 1 events in 0." in printed()


def test_a_connection_gets_one_wrapper_however_often_it_connects(transactional_db: None, printed: Any) -> None:
    for _ in range(3):
        connection.close()
        connection.ensure_connection()

    assert len([wrapper for wrapper in connection.execute_wrappers if wrapper.__module__.startswith("chatsystem")]) == 1
