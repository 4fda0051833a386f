"""Tickets: what they grant and to whom, and what is refused. Documented in docs/live.md."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from django.core.signing import Signer
from django.http import HttpResponse
from rest_framework.test import APIClient

from chatsystem.api.pagination import Cursors
from chatsystem.logs.formatters import JsonLineFormatter, LineFormatter
from chatsystem.writelog import append
from chatsystem.writelog.keys import partition_of
from live import tickets
from live.tickets import Invalid, issue, token_hash, verify
from tests.support.harness import Tenant, drain_all, in_threads
from tests.support.places import MOMENT, UNKNOWN_TOKEN, assert_error, nothing_left_behind

TOKEN = "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12"
OTHER = "0" * 32
KEY = {"Idempotency-Key": "one"}


def post(tenant: Tenant, body: Any = None, **headers: str) -> HttpResponse:
    return tenant.api.post(f"{tenant.path}/tickets", {} if body is None else body, format="json", headers=headers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Call it to let seconds pass for tickets."""
    moved = [0.0]
    real = time.time
    monkeypatch.setattr(tickets.time, "time", lambda: real() + moved[0])
    return lambda seconds: moved.__setitem__(0, moved[0] + seconds)


# What a ticket holds.


@pytest.mark.parametrize("chats", [None, frozenset({1}), frozenset({7, 2, 2**63 - 1}), frozenset(range(1, 101))])
def test_a_ticket_grants_what_it_was_issued_for(chats: frozenset[int] | None) -> None:
    before = datetime.now(timezone.utc)

    ticket, expires_at = issue(TOKEN, chats, 60)

    assert verify(ticket) == (partition_of(TOKEN), token_hash(TOKEN), chats, expires_at)
    # Rounded up to a whole second.
    assert before + timedelta(seconds=60) <= expires_at <= datetime.now(timezone.utc) + timedelta(seconds=61)


def test_a_ticket_needs_no_encoding_in_a_url_and_fits_into_a_request_line() -> None:
    ticket, _ = issue(TOKEN, frozenset(range(2**63 - 101, 2**63 - 1)), 60)

    assert re.fullmatch(r"[\w.-]+", ticket, re.ASCII)
    assert len(ticket) < 2_200
    assert len(issue(TOKEN, frozenset({1, 2}), 60)[0]) < 100


def test_a_ticket_holds_neither_the_token_nor_anything_that_the_api_accepts_as_one(ours: Tenant) -> None:
    ticket, _ = issue(ours.token, None, 60)

    assert ours.token not in ticket
    assert token_hash(ours.token) in ticket
    assert_error(ours.api.get(f"/applications/{token_hash(ours.token)}"), 404, "not_found")


def test_of_two_applications_each_has_its_own_hash_and_partition(ours: Tenant, theirs: Tenant) -> None:
    mine, its = (verify(issue(tenant.token, None, 60)[0]) for tenant in (ours, theirs))

    assert mine.token_hash != its.token_hash
    assert (mine.partition, its.partition) == (partition_of(ours.token), partition_of(theirs.token))


# What is refused.


def test_a_ticket_is_valid_until_it_expires_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, expires_at = issue(TOKEN, None, 60)

    monkeypatch.setattr(tickets.time, "time", lambda: expires_at.timestamp() - 0.001)
    assert verify(ticket).chats is None
    monkeypatch.setattr(tickets.time, "time", expires_at.timestamp)
    with pytest.raises(Invalid, match="expired"):
        verify(ticket)


def parts(chats: frozenset[int] | None = frozenset({1})) -> list[str]:
    """Returns hash, partition, expiry, chats and signature of a ticket of TOKEN."""
    return issue(TOKEN, chats, 60)[0].split(".")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (0, token_hash(OTHER)),
        (1, str((partition_of(TOKEN) + 1) % 64)),
        (2, "9999999999"),
        (3, "2"),
        (3, "1-2"),
        (3, "all"),
    ],
)
def test_a_ticket_cannot_be_changed_by_its_bearer(part: int, value: str) -> None:
    forged = parts()
    forged[part] = value

    with pytest.raises(Invalid):
        verify(".".join(forged))


def test_the_signature_of_another_ticket_does_not_fit() -> None:
    of_all, of_one = parts(None), parts()
    with pytest.raises(Invalid):
        verify(".".join([*of_all[:-1], of_one[-1]]))


@pytest.mark.parametrize(
    "text",
    ["", ".", "....", "x", "é", "\ud800", "\0", TOKEN, "x" * 100_000, "1" * 5_000, ".".join(["1"] * 5), " ", "a:b:c"],
)
def test_what_is_no_ticket_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        verify(text)


def test_a_cut_or_padded_ticket_is_invalid() -> None:
    ticket, _ = issue(TOKEN, None, 60)

    for changed in (ticket[:-1], ticket[1:], f"{ticket} ", f" {ticket}", f"{ticket}\n", f"{ticket}.x", ticket.upper()):
        with pytest.raises(Invalid):
            verify(changed)


def test_what_was_signed_for_another_purpose_is_no_ticket(ours: Tenant) -> None:
    content = issue(TOKEN, None, 60)[0].rpartition(".")[0]
    for signer in (Signer(), Signer(sep="."), Signer(salt="cursor ('applications',)", sep=".")):
        with pytest.raises(Invalid):
            verify(signer.sign(content))
    with pytest.raises(Invalid):
        verify(Cursors("applications").write("after", [1, 1]))


def test_a_ticket_is_no_cursor(api: APIClient) -> None:
    refused = api.get("/applications", {"cursor": issue(TOKEN, None, 60)[0]})

    assert_error(refused, 400, "invalid", "cursor")


def test_a_signed_text_of_another_version_is_invalid() -> None:
    for content in ("", "1", f"{TOKEN}.64.9999999999.all", f"{TOKEN}.1.9999999999.", f"{TOKEN}.1.9999999999.all.more"):
        with pytest.raises(Invalid, match="another version"):
            verify(tickets._signer().sign(content))


def test_a_new_secret_key_ends_tickets_unless_the_old_one_is_a_fallback(settings: Any) -> None:
    ticket, _ = issue(TOKEN, None, 60)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 50

    with pytest.raises(Invalid):
        verify(ticket)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert verify(ticket).token_hash == token_hash(TOKEN)


# The route.


@pytest.fixture(params=["undrained", "drained"])
def settle(request: pytest.FixtureRequest) -> Callable[[], object]:
    return drain_all if request.param == "drained" else lambda: None


@pytest.fixture
def two_chats(ours: Tenant, theirs: Tenant, settle: Callable) -> Tenant:
    """Ours with the chats 1 and 2, in one run acknowledged only. Theirs has the chats 1 to 3."""
    for tenant, more in ((ours, 2), (theirs, 2)):
        for _ in range(more):
            tenant.chat()
    settle()
    return ours


def test_a_ticket_for_chats_is_issued_for_existing_ones_stored_or_not(two_chats: Tenant) -> None:
    answer = post(two_chats, {"chats": [2, 1, 2], "ttl": 10})

    assert answer.status_code == 201
    found = answer.json()
    assert set(found) == {"ticket", "expires_at"}
    assert MOMENT.fullmatch(found["expires_at"])
    granted = verify(found["ticket"])
    assert (granted.token_hash, granted.chats) == (token_hash(two_chats.token), {1, 2})
    assert found["expires_at"] == granted.expires_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Location" not in answer.headers


def test_without_chats_a_ticket_is_for_the_whole_application_for_an_hour(two_chats: Tenant) -> None:
    before = time.time()
    for answer in (post(two_chats), two_chats.api.post(f"{two_chats.path}/tickets/")):
        granted = verify(answer.json()["ticket"])

        assert granted.chats is None
        assert 3_600 <= granted.expires_at.timestamp() - before < 3_660


def test_a_chat_that_does_not_exist_is_named_by_its_index(two_chats: Tenant) -> None:
    # Theirs has a chat 3.
    refused = post(two_chats, {"chats": [1, 3, 2, 4]})

    answer = assert_error(refused, 400, "does_not_exist", "chats.1")
    assert [error["attr"] for error in answer["errors"]] == ["chats.1", "chats.3"]
    assert_error(post(two_chats, {"chats": [10**18]}), 400, "does_not_exist", "chats.0")


def test_an_edited_chat_exists(two_chats: Tenant) -> None:
    """The pending view of an edit does not say when the chat was created. The database does."""
    two_chats.api.patch(f"{two_chats.path}/chats/1", {"title": "edited"}, format="json")

    assert post(two_chats, {"chats": [1, 2]}).status_code == 201


@pytest.mark.parametrize("body", [{}, {"chats": [1]}])
@pytest.mark.parametrize("token", [UNKNOWN_TOKEN, "x", "A" * 32])
def test_an_unknown_token_gets_no_ticket(theirs: Tenant, token: str, body: dict[str, Any]) -> None:
    assert_error(theirs.api.post(f"/applications/{token}/tickets", body, format="json"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "code", "attr"),
    [
        ({"chats": None}, "null", "chats"),
        ({"chats": 1}, "not_a_list", "chats"),
        ({"chats": "1"}, "not_a_list", "chats"),
        ({"chats": {"1": 1}}, "not_a_list", "chats"),
        ({"chats": []}, "min_length", "chats"),
        ({"chats": [1] * 101}, "max_length", "chats"),
        ({"chats": [1, "1"]}, "invalid", "chats.1"),
        ({"chats": [True]}, "invalid", "chats.0"),
        ({"chats": [1.5]}, "invalid", "chats.0"),
        ({"chats": [[1]]}, "invalid", "chats.0"),
        ({"chats": [None]}, "null", "chats.0"),
        ({"chats": [0]}, "min_value", "chats.0"),
        ({"chats": [-1]}, "min_value", "chats.0"),
        ({"chats": [2**63]}, "max_value", "chats.0"),
        ({"ttl": 9}, "min_value", "ttl"),
        ({"ttl": 86_401}, "max_value", "ttl"),
        ({"ttl": None}, "null", "ttl"),
        ({"ttl": "60"}, "invalid", "ttl"),
        ({"ttl": True}, "invalid", "ttl"),
        ({"ttl": 60.5}, "invalid", "ttl"),
        ({"ttl": [60]}, "invalid", "ttl"),
        ([], "invalid", "non_field_errors"),
        ("text", "invalid", "non_field_errors"),
    ],
)
def test_invalid_input_is_a_400_that_names_the_field(ours: Tenant, body: Any, code: str, attr: str) -> None:
    assert_error(post(ours, body), 400, code, attr)


def test_the_limits_themselves_are_valid(ours: Tenant) -> None:
    ours.chat()

    for body in ({"ttl": 10}, {"ttl": 86_400}, {"chats": [1] * 100}, {"unknown": 1}):
        assert post(ours, body).status_code == 201, body


# Repeated requests.


def test_a_ticket_leaves_nothing_behind(ours: Tenant) -> None:
    with nothing_left_behind():
        assert post(ours).status_code == 201


def test_a_repeated_request_gets_the_same_ticket_and_says_so(two_chats: Tenant, clock: Callable[[float], None]) -> None:
    first = post(two_chats, {"chats": [2, 1], "ttl": 600}, **KEY)
    clock(100)
    again = post(two_chats, {"chats": [2, 1], "ttl": 600, "unknown": 1}, **KEY)
    other = post(two_chats, {"chats": [2, 1], "ttl": 600}, **{"Idempotency-Key": "another"})

    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Location" not in again.headers
    assert other.json()["expires_at"] > first.json()["expires_at"]


def test_twenty_requests_at_once_get_one_ticket(ours: Tenant, clock: Callable[[float], None]) -> None:
    answers: list[HttpResponse] = []

    def ask(number: int) -> None:
        clock(1)
        answers.append(post(Tenant(APIClient(), ours.token), **KEY))

    in_threads(ask, range(20))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("body", [{"ttl": 61}, {"ttl": 60, "chats": [1]}, {"ttl": 60, "chats": [1, 2]}])
def test_a_key_of_another_ticket_is_refused(two_chats: Tenant, body: dict[str, Any]) -> None:
    assert post(two_chats, {"ttl": 60, "chats": [2]}, **KEY).status_code == 201

    assert_error(post(two_chats, body, **KEY), 422, "idempotency_key_reused")


def test_a_key_of_a_ticket_is_none_of_a_write_nor_the_other_way_round(ours: Tenant) -> None:
    post(ours, {}, **KEY)
    refused = ours.api.post(f"{ours.path}/chats", {"title": "a chat"}, format="json", headers=KEY)
    assert_error(refused, 422, "idempotency_key_reused")

    other = {"Idempotency-Key": "of the chat"}
    ours.chat(**other)
    assert_error(post(ours, {}, **other), 422, "idempotency_key_reused")


def test_a_rejected_request_does_not_consume_its_key(ours: Tenant, theirs: Tenant) -> None:
    assert_error(post(ours, {"chats": [1]}, **KEY), 400, "does_not_exist", "chats.0")
    ours.chat()
    assert post(ours, {"ttl": 60}, **KEY).status_code == 201
    # And another application has keys of its own.
    assert "Idempotent-Replayed" not in post(theirs, {"ttl": 60}, **KEY).headers
    assert_error(post(ours, {}, **{"Idempotency-Key": "é"}), 400, "invalid", "Idempotency-Key")


def test_a_redis_that_takes_no_connection_has_kept_no_key(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a Redis that goes away after the application was looked up,
    with monkeypatch.context() as patched:
        patched.setattr(append, "pooled_connection", Mock(side_effect=redis.ConnectionError("refused")))
        refused = post(ours, {"ttl": 60}, **KEY)

    # then the client hears that nothing has happened, and may send anything else with the key.
    assert_error(refused, 503, "service_unavailable")
    assert "Idempotent-Replayed" not in post(ours, {"ttl": 70}, **KEY).headers


def test_a_lost_answer_of_redis_leaves_the_outcome_open(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then another body under the same key may be refused."""
    asked = append.ask_all

    def lose(connection: Any, commands: Any) -> None:
        asked(connection, commands)
        raise redis.ConnectionError("lost")

    with monkeypatch.context() as patched:
        patched.setattr(append, "ask_all", lose)
        refused = post(ours, {"ttl": 60}, **KEY)
    assert_error(refused, 503, "outcome_unknown")
    assert post(ours, {"ttl": 60}, **KEY).headers["Idempotent-Replayed"] == "true"


# Other requests.


def test_other_methods_are_refused(ours: Tenant) -> None:
    for method in ("get", "put", "patch", "delete"):
        refused = getattr(ours.api, method)(f"{ours.path}/tickets")
        assert_error(refused, 405, "method_not_allowed")
        assert refused.headers["Allow"] == "POST, OPTIONS"


# The logs.


@pytest.mark.parametrize(
    "formatter", [LineFormatter("%(message)s"), JsonLineFormatter(["message"], json_ensure_ascii=False)]
)
def test_no_line_of_the_log_holds_a_ticket(formatter: logging.Formatter) -> None:
    ticket, _ = issue(TOKEN, frozenset({1, 2}), 60)
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)

    handler.emit(logging.makeLogRecord({"msg": "GET /events?ticket=%s&after=1-1 %s", "args": (ticket, TOKEN)}))

    assert "GET /events?ticket=…&after=1-1 …" in out.getvalue()
    for part in ticket.split("."):
        assert len(part) < 10 or part not in out.getvalue()
