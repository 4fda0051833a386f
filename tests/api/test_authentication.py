"""ADMIN_API_KEY: the key to routes that span applications."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.harness import Tenant
from tests.support.places import assert_error, nothing_left_behind, place_of

KEY = "the admin's key"


@pytest.fixture
def closed(ours: Tenant, settings: Any) -> Tenant:
    """Ours, on a server with an admin key."""
    settings.ADMIN_API_KEY = KEY
    return ours


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer  {KEY}",
        f"Bearer {KEY} ",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Basic {KEY}",
        f"Token {KEY}",
        KEY,
        f"Bearer: {KEY}",
        "Bearer schlüssel",
        "Bearer \udcff",
        "Bearer " + "x" * 8000,
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_without_the_key_routes_that_cross_applications_are_closed(closed: Tenant, authorization: str | None) -> None:
    headers = (
        {} if authorization is None else {"Authorization": authorization.encode("utf-8", "replace").decode("latin-1")}
    )

    for act in (
        lambda: closed.api.get("/applications", headers=headers),
        lambda: closed.api.get("/applications?limit=abc", headers=headers),
        lambda: closed.api.head("/applications/", headers=headers),
        lambda: closed.api.post("/applications", {"name": "x"}, format="json", headers=headers),
        lambda: closed.api.post("/applications", {"name": ""}, format="json", headers=headers),
    ):
        with nothing_left_behind():
            response = act()
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        if response.content:
            assert_error(response, 401, "not_authenticated")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_key_they_are_open(closed: Tenant, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEY}"}

    assert closed.api.get("/applications", headers=headers).status_code == 200
    assert closed.api.post("/applications", {"name": "x"}, format="json", headers=headers).status_code == 201


def test_an_applications_token_stays_the_key_to_its_own_routes(closed: Tenant) -> None:
    place = place_of("message", closed)
    created = place.create("old")

    assert place.change(created, "new")["body"] == "new"
    assert closed.get("/chats")["results"] == [closed.get("/chats/1")]
    assert closed.get()["token"] == closed.token


def test_the_key_opens_no_application(closed: Tenant) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}

    assert_error(closed.api.get(f"/applications/{'0' * 32}", headers=headers), 404, "not_found")


def test_without_a_configured_key_everybody_may(ours: Tenant) -> None:
    for authorization in ("Bearer x", "Basic x", ""):
        assert ours.api.get("/applications", headers={"Authorization": authorization}).status_code == 200


@pytest.mark.parametrize("configured", ["new,old", "old,new", " new , old ", "new,old,"])
def test_while_a_key_is_replaced_the_new_and_the_old_one_are_taken(
    ours: Tenant, settings: Any, configured: str
) -> None:
    settings.ADMIN_API_KEY = configured

    for key in ("new", "old"):
        assert ours.api.get("/applications", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    for wrong in ("", "new,old", "newold", ","):
        assert ours.api.get("/applications", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401


@pytest.mark.parametrize("configured", [",", " ", " , "])
def test_a_setting_without_a_key_in_it_opens_nothing(ours: Tenant, settings: Any, configured: str) -> None:
    settings.ADMIN_API_KEY = configured

    for authorization in ("Bearer ", "Bearer", "Bearer ,"):
        assert ours.api.get("/applications", headers={"Authorization": authorization}).status_code == 401
