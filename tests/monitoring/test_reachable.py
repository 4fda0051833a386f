"""A configured service that cannot be used is reported in one sentence, with its setting and without its password."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.db import OperationalError
from pytest_django import Settings

from chatsystem.monitoring import reachable
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in reachable.SERVICES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def named(name: str, url: str, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> dict[str, str]:
    """Returns the sentence about a service that the environment names."""
    monkeypatch.setenv(name, url)
    setattr(settings, {"CELERY_BROKER_URL": "BROKER_URL"}.get(name, name), url)
    return reachable.unreachable()


def test_nothing_is_asked_that_nobody_has_named() -> None:
    assert reachable.unreachable() == {}


@pytest.mark.parametrize("name", ["REDIS_URL", "CACHE_URL", "CELERY_BROKER_URL"])
def test_a_redis_that_is_not_there_is_told_by_the_setting_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    told = named(name, f"redis://:pass,word@127.0.0.1:{free_port()}/0", monkeypatch, settings)

    assert list(told) == [name]
    assert told[name].startswith(f"{name} names a Redis that cannot be used")
    assert "Connection refused" in told[name]
    assert told[name].endswith(f"; start it, or correct {name}.")


def test_a_redis_that_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, silent: int
) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.4)

    told = named("REDIS_URL", f"redis://127.0.0.1:{silent}/0", monkeypatch, settings)

    assert "REDIS_URL names a Redis that cannot be used" in told["REDIS_URL"]


def test_a_redis_that_answers_is_not_told_and_neither_is_one_that_reads_its_log(
    state: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    assert named("REDIS_URL", settings.REDIS_URL, monkeypatch, settings) == {}

    def loading(client: redis.Redis) -> None:
        raise redis.BusyLoadingError

    monkeypatch.setattr(redis.Redis, "ping", loading)
    assert reachable.unreachable() == {}


@pytest.mark.parametrize("spelt", ["pass,word;x", "pass%2Cword%3Bx"])
def test_a_password_that_a_driver_repeats_is_blotted_out(
    spelt: str, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def repeating(url: str) -> None:
        raise redis.AuthenticationError("pass,word;x is not the password, nor is pass%2Cword%3Bx")

    monkeypatch.setattr(reachable, "_ping", repeating)

    sentence = named("REDIS_URL", f"redis://user:{spelt}@host/0", monkeypatch, settings)["REDIS_URL"]

    assert "is not the password" in sentence
    assert "pass," not in sentence
    assert spelt not in sentence


def test_a_database_that_is_away_is_told_with_the_drivers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError(2002, "Can't connect to server on 'db' (115)")

    monkeypatch.setattr(reachable, "connection", type("Away", (), {"ensure_connection": staticmethod(away)}))
    monkeypatch.setenv("DATABASE_URL", "mysql://user:password@db/chat")

    told = reachable.unreachable()["DATABASE_URL"]

    assert "2002 Can't connect to server on 'db' (115)" in told
    assert told.endswith("; start it, or correct DATABASE_URL.")


def test_a_cluster_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.SEARCH_BACKEND = "search.backends.elasticsearch.ElasticsearchBackend"

    told = named("ELASTICSEARCH_URL", f"http://user:password@127.0.0.1:{free_port()}", monkeypatch, settings)

    assert "ELASTICSEARCH_URL names a cluster that cannot be used" in told["ELASTICSEARCH_URL"]
    assert "password" not in told["ELASTICSEARCH_URL"]
