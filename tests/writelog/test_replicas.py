"""REDIS_REPLICAS: a write is acknowledged once enough replicas have it, so a failover loses none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from chats.services import update_chat
from chatsystem.writelog import keys
from chatsystem.writelog.exceptions import LogUnavailable, OutcomeUnknown, Unreplicated
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.redis_client import client
from chatsystem.writelog.tail import tails
from tests.support.harness import Tenant, drain_all
from tests.support.live import POLL, LiveServer
from tests.support.product import eventually
from tests.support.redis_servers import Server, briefly, use


def promote(replica: Server, leader: Server, settings: Any) -> None:
    """Does what Sentinel does when the leader is gone."""
    leader.kill()
    replica.client.replicaof("NO", "ONE")
    use(replica, settings)


def test_after_a_failover_everything_acknowledged_is_there_and_numbers_go_on(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given writes that were acknowledged and not drained, and two of them stored,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.batch(1, ["one", "two"])
    drain_all()
    ours.message(1, "three", **{"Idempotency-Key": "k"})

    # when the leader dies and its replica takes over,
    promote(replica, leader, settings)
    settings.REDIS_REPLICAS = 0

    # then reads show everything acknowledged, it is stored, a repeated request is known, and the next number follows.
    assert ours.get("/chats/1/messages/3")["body"] == "three"
    assert ours.message(1, "three", **{"Idempotency-Key": "k"})["number"] == 3
    assert ours.message(1, "four")["number"] == 4
    drain_all()
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == ["one", "two", "three", "four"]


def test_a_write_that_no_replica_has_is_not_acknowledged_and_none_is_lost_by_a_failover_to_one_that_lags(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a replica that has stopped following,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.message(1, "one")
    with replica.stopped(), briefly(settings):
        # when a message is posted, then it is refused,
        refused = api.post(f"{ours.path}/chats/1/messages", {"body": "two"}, format="json")
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")

    # and when the replica takes over, nothing acknowledged is missing, and no number is duplicated.
    promote(replica, leader, settings)
    settings.REDIS_REPLICAS = 0
    drain_all()
    bodies = [message["body"] for message in ours.get("/chats/1/messages")["results"]]
    assert bodies in (["one"], ["one", "two"])
    assert ours.message(1, "next")["number"] == len(bodies) + 1


def test_a_repeated_request_waits_for_the_replica_too(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a write that was refused because no replica had it, and whose receipt exists,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    path, key = f"{ours.path}/chats/1/messages", {"Idempotency-Key": "k"}
    with replica.stopped(), briefly(settings):
        assert api.post(path, {"body": "one"}, format="json", headers=key).status_code == 503
        # when it is repeated over a new connection, then it is refused again,
        client(0).connection_pool.disconnect()
        assert api.post(path, {"body": "one"}, format="json", headers=key).status_code == 503

    # and acknowledged once, as soon as the replica follows.
    eventually(lambda: api.post(path, {"body": "one"}, format="json", headers=key).status_code == 201)
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == ["one"]
    assert replica.client.xlen(keys.Keys(keys.partition_of(ours.token)).log) == 3


def test_a_reader_of_the_log_is_shown_nothing_that_the_replicas_do_not_have(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given an event that the primary has, and not yet its replica,
    ours = Tenant.new(APIClient(), "ours")
    ours.chat()
    partition = partition_of(ours.token)
    settings.REDIS_TIMEOUT = 2
    with replica.stopped():
        with pytest.raises(OutcomeUnknown):
            update_chat(ours.token, 1, "not replicated yet")

        # when a reader asks for it, then it is refused,
        with pytest.raises(Unreplicated):
            tails({partition: 0})

    # and gets it once the replica follows.
    def texts() -> list[str]:
        with suppress(LogUnavailable):
            tail = tails({partition: 0})[partition]
            return [] if isinstance(tail, LogUnavailable) else [entry.text for entry in tail.entries]
        return []

    eventually(lambda: "not replicated yet" in texts())


def test_a_stream_shows_an_event_once_a_replica_has_it(
    transactional_db: None, leader: Server, replica: Server, settings: Any, tmp_path: Path
) -> None:
    # Given a stream, and an event that no replica has,
    ours = Tenant.new(APIClient(), "ours")
    ours.chat()
    options = {"REDIS_URL": settings.REDIS_URL, "REDIS_REPLICAS": "1", "REDIS_TIMEOUT": "2"}
    live = LiveServer(tmp_path / "live.log", **options)
    try:
        stream = live.open(f"{ours.path}/events").begun()
        settings.REDIS_TIMEOUT = 2
        with replica.stopped():
            with pytest.raises(OutcomeUnknown):
                update_chat(ours.token, 1, "not replicated yet")

            # when the live process reads it, then nobody is shown it,
            eventually(lambda: "events wait: Unreplicated" in live.log.read_text())
            poll = live.ask(f"{ours.path}/events?after={stream.position}&wait=0", POLL)
            assert poll.status == 503 or poll.json()["events"] == []

        # and the stream shows it once the replica follows.
        assert stream.until("not replicated yet") == ["not replicated yet"]
    finally:
        live.stop()
