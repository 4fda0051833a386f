"""The request that the WSGI handler makes."""

from __future__ import annotations

import pytest
from django.core.exceptions import DisallowedHost
from django.test import RequestFactory
from pytest_django import Settings

from chatsystem.wsgi import Request


def request_to(host: str) -> Request:
    return Request(RequestFactory().get("/applications", HTTP_HOST=host).environ)


def test_a_request_parses_its_host_once() -> None:
    request = request_to("testserver")
    assert request.get_host() == "testserver"

    request.META["HTTP_HOST"] = "another.example"

    assert request.get_host() == "testserver"


def test_a_host_that_is_not_allowed_is_refused_each_time(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    request = request_to("another.example")

    for _ in range(2):
        with pytest.raises(DisallowedHost):
            request.get_host()
