"""The connection of Celery's workers to their broker."""

from __future__ import annotations

from chatsystem.celery import PromptConnection


class Orphan:
    """A channel whose connection is gone. It stands in for kombu's, where a killed Redis leads to it now and then."""

    def close(self) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")


def test_a_worker_survives_the_closing_of_a_channel_that_has_lost_its_connection() -> None:
    connection = PromptConnection("memory://")
    connection.connect()
    connection._default_channel = Orphan()
    connection.release()
    assert not connection.connected
