"""The connection of Celery workers to their broker."""

from __future__ import annotations

import logging
from pathlib import Path

from celery import Celery
from django.conf import settings

from chatsystem.celery import PromptConnection, app
from tests.support.redis_servers import Server


class Orphan:
    """A channel whose connection is gone, as a killed Redis sometimes leaves kombu's channel."""

    def close(self) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")


def test_a_worker_survives_closing_a_channel_without_a_connection() -> None:
    connection = PromptConnection("memory://")
    connection.connect()
    connection._default_channel = Orphan()
    connection.release()
    assert not connection.connected


def test_no_task_that_can_take_long_shares_a_queue_with_drains() -> None:
    """Otherwise drains would wait while all processes of the default queue are indexing."""
    app.loader.import_default_modules()
    # django-elasticsearch-dsl's tasks are never sent, since it is not in INSTALLED_APPS.
    tasks = [name for name in app.tasks if not name.startswith(("celery.", "django_elasticsearch_dsl."))]
    queues = {name: app.amqp.router.route({}, name)["queue"].name for name in tasks}

    prompt = {name for name, queue in queues.items() if queue == "celery"}
    assert prompt == {"writelog.drain", "writelog.sweep", "writelog.sample"}
    assert {queues[name] for name in tasks if name not in prompt} == {"background"}


def test_a_worker_of_both_queues_gets_each_task_once() -> None:
    # Two queues with the same routing key would both get each task.
    assert {name: queue.routing_key for name, queue in app.amqp.queues.consume_from.items()} == {
        "celery": "celery",
        "background": "background",
    }


def test_an_unsent_acknowledgement_holds_no_place_in_a_worker(tmp_path: Path) -> None:
    # Given a worker that takes one task at a time, and has taken one,
    broker = Server(tmp_path / "broker")
    worker = Celery(broker=f"redis://127.0.0.1:{broker.port}/0", set_as_current=False)
    worker.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    connection = worker.connection_for_read()
    try:
        queue = connection.SimpleQueue("celery")
        queue.consumer.qos(prefetch_count=1)
        queue.put({"hint": 1})
        task = queue.get(timeout=60)
        assert not queue.channel.qos.can_consume()
        # when the broker is killed before the acknowledgement, which Celery only logs,
        broker.kill()
        task.ack_log_error(logging.getLogger(__name__), connection.connection_errors)
        # then the worker can take the next task.
        assert queue.channel.qos.can_consume()
    finally:
        broker.kill()
        connection.collect()
