"""Metrics for Prometheus: what all processes share is asked of each dependency when somebody looks.

Any process may answer. Only the requests are each web process's own (request_metrics.py). Documented in
docs/operations.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from django.conf import settings
from django.http import HttpResponse
from django.utils.module_loading import import_string
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.request import Request

from chatsystem import health
from chatsystem.api.access import require_admin_key
from chatsystem.api.negotiation import AnyAccept
from chatsystem.asking import ask
from chatsystem.writelog import log, vitals
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.work import Histogram

logger = logging.getLogger(__name__)


#: Seconds within which all of it is asked: less than a scraper waits (10 by default), whoever is silent.
PATIENCE = 5.0


class Shared(Collector):
    """What all processes share. A dependency that is away leaves its metrics out, and is told as not up."""

    def collect(self) -> Iterator[Metric]:
        questions: dict[str, Callable[[], list[Metric]]] = {
            "state": lambda: list(_of_the_state()),
            "database": lambda: list(_of_the_database()),
            "search": lambda: _nothing_of(health.ping_search),
            "workers": lambda: _nothing_of(vitals.expect_workers),
        }
        up = GaugeMetricFamily("chatsystem_up", "1 when the dependency answers.", labels=["dependency"])
        for dependency, answer in ask(questions, PATIENCE).items():
            if isinstance(answer, Exception):
                logger.warning("no metrics of the %s: %s", dependency, health.reason(answer))
                up.add_metric([dependency], 0)
            else:
                up.add_metric([dependency], 1)
                yield from answer
        yield up


def _nothing_of(check: Callable[[], None]) -> list[Metric]:
    """Of what only is there or not."""
    check()
    return []


def _of_the_state() -> Iterator[Metric]:
    backlog = vitals.backlog()
    yield GaugeMetricFamily("chatsystem_log_events", "Acknowledged events that are not stored yet.", backlog.events)
    yield GaugeMetricFamily("chatsystem_log_age_seconds", "Age of the oldest of them.", backlog.seconds)
    halted = len(log.halted())
    yield GaugeMetricFamily("chatsystem_halted_partitions", "Partitions whose database is older than it was.", halted)

    acknowledged = CounterMetricFamily(
        "chatsystem_acknowledged_events", "Events that were accepted.", labels=["partition"]
    )
    stored = CounterMetricFamily(
        "chatsystem_stored_events", "Those that left the log for the database.", labels=["partition"]
    )
    for partition, total in enumerate(vitals.totals()):
        acknowledged.add_metric([str(partition)], total.acknowledged)
        stored.add_metric([str(partition)], total.stored)
    yield acknowledged
    yield stored

    done = vitals.done()
    yield _histogram("chatsystem_drain_duration_seconds", "Drains, from their lock to their commit.", done.seconds)
    yield _histogram("chatsystem_drain_batch_events", "Events that a drain stores at once.", done.events)
    yield CounterMetricFamily("chatsystem_count_drifts", "Counts that were not the number of rows.", done.drifts)


def _histogram(name: str, documentation: str, found: Histogram) -> HistogramMetricFamily:
    buckets = [(floatToGoString(bound), below) for bound, below in found.buckets]
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=found.sum)


def _of_the_database() -> Iterator[Metric]:
    dead = DeadEvent.objects.count()
    yield GaugeMetricFamily("chatsystem_dead_events", "Acknowledged events that the database refused.", dead)
    # Named by string, like all wiring: imports run from the search room to this one.
    lag = import_string("search.outbox.lag")()
    yield GaugeMetricFamily("chatsystem_outbox_entries", "Stored changes that are not indexed yet.", lag.entries)
    yield GaugeMetricFamily("chatsystem_index_lag_seconds", "Age of the oldest of them.", lag.seconds)


class Requests(Collector):
    """Of all web processes of this host."""

    def collect(self) -> Iterable[Metric]:
        return MultiProcessCollector(None, str(settings.METRICS_DIR)).collect() if settings.METRICS_DIR.is_dir() else ()


registry = CollectorRegistry()
registry.register(Shared())
registry.register(Requests())


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def metrics(request: Request) -> HttpResponse:
    """What crosses applications is for those with the admin key."""
    require_admin_key(request)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
