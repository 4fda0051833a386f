"""Metrics for Prometheus. Documented in docs/metrics.md.

Shared figures are read from each dependency on each scrape, so any process can answer. Only requests are counted in
each web process (request_metrics.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from django.conf import settings
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.request import Request

from chatsystem.api.authentication import require_admin_key
from chatsystem.api.negotiation import AnyAccept
from chatsystem.monitoring import health
from chatsystem.probes import Probes
from chatsystem.search_interface import search
from chatsystem.writelog import live_stats, redis_guards, rollback_guard, stats
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.redis_client import of_every
from chatsystem.writelog.stats import Histogram

logger = logging.getLogger(__name__)


#: Seconds for all probes together: less than the 10 s that a scraper waits by default.
PATIENCE = 5.0

_probes = Probes()


class Shared(Collector):
    """Collects the shared metrics. A dependency that is down has no metrics, and its `chatsystem_up` is 0."""

    def collect(self) -> Iterator[Metric]:
        probes: dict[str, Callable[[], list[Metric]]] = {
            "state": lambda: list(_state_metrics()),
            "database": lambda: list(_database_metrics()),
            "search": lambda: _probe_only(search().ping),
            "workers": lambda: _probe_only(stats.expect_workers),
            "live": lambda: list(_live_metrics()),
        }
        up = GaugeMetricFamily("chatsystem_up", "1 when the dependency answers.", labels=["dependency"])
        for dependency, answer in _probes.run(probes, PATIENCE).items():
            if isinstance(answer, Exception):
                logger.warning("no metrics of the %s: %s", dependency, health.reason(answer))
                up.add_metric([dependency], 0)
            else:
                up.add_metric([dependency], 1)
                yield from answer
        yield up


def _probe_only(check: Callable[[], None]) -> list[Metric]:
    """Runs a probe that has no metrics besides `chatsystem_up`."""
    check()
    return []


def _state_metrics() -> Iterator[Metric]:
    backlog = stats.backlog()
    yield GaugeMetricFamily("chatsystem_log_events", "Acknowledged events that are not stored yet.", backlog.events)
    yield GaugeMetricFamily("chatsystem_log_age_seconds", "Age of the oldest of them.", backlog.seconds)
    halted = len(of_every(rollback_guard.halted))
    yield GaugeMetricFamily("chatsystem_halted_partitions", "Partitions whose database is older than it was.", halted)
    superseded = int(bool(of_every(redis_guards.superseded)))
    yield GaugeMetricFamily(
        "chatsystem_superseded", "1 when the database takes events from another state Redis.", superseded
    )

    acknowledged = CounterMetricFamily(
        "chatsystem_acknowledged_events", "Events that were accepted.", labels=["partition"]
    )
    stored = CounterMetricFamily(
        "chatsystem_stored_events", "Those that left the log for the database.", labels=["partition"]
    )
    for partition, total in stats.totals().items():
        acknowledged.add_metric([str(partition)], total.acknowledged)
        stored.add_metric([str(partition)], total.stored)
    yield acknowledged
    yield stored

    # One read for all: each partition has a hash of counters, those of the live processes included.
    counted = stats.counted()
    done = stats.Work.of(counted)
    yield _histogram("chatsystem_drain_duration_seconds", "Drains, from their lock to their commit.", done.seconds)
    yield _histogram("chatsystem_drain_batch_events", "Events that a drain stores at once.", done.events)
    yield CounterMetricFamily("chatsystem_count_drifts", "Counts that were not the number of rows.", done.drifts)

    delivered = live_stats.Delivered.of(counted)
    yield CounterMetricFamily("chatsystem_live_events", "Events that were delivered to a stream.", delivered.events)
    delays = Histogram(delivered.delays, delivered.waited)
    yield _histogram("chatsystem_live_delay_seconds", "Their delays, from the acceptance; without old events.", delays)
    yield CounterMetricFamily("chatsystem_live_resets", "Resets that were sent to a stream.", delivered.resets)
    refused = delivered.refused
    yield CounterMetricFamily("chatsystem_live_refused", "Streams and polls that were refused for now.", refused)


def _live_metrics() -> Iterator[Metric]:
    processes = live_stats.processes()
    if not processes:
        raise live_stats.LiveSilent
    streams = sum(each.open for each in processes.values())
    yield GaugeMetricFamily("chatsystem_live_streams", "Open streams and long polls.", streams)
    held = sum(each.backlog for each in processes.values())
    yield GaugeMetricFamily("chatsystem_live_backlog_bytes", "Bytes of events that are held for streams.", held)


def _histogram(name: str, documentation: str, found: Histogram) -> HistogramMetricFamily:
    buckets = [(floatToGoString(bound), below) for bound, below in found.buckets]
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=found.sum)


def _database_metrics() -> Iterator[Metric]:
    dead = DeadEvent.objects.count()
    yield GaugeMetricFamily("chatsystem_dead_events", "Acknowledged events that the database refused.", dead)
    lag = search().lag()
    yield GaugeMetricFamily("chatsystem_outbox_entries", "Stored changes that are not indexed yet.", lag.entries)
    yield GaugeMetricFamily("chatsystem_index_lag_seconds", "Age of the oldest of them.", lag.seconds)


class Requests(Collector):
    """Collects the request metrics of all web processes of this host."""

    def collect(self) -> Iterable[Metric]:
        return MultiProcessCollector(None, str(settings.METRICS_DIR)).collect() if settings.METRICS_DIR.is_dir() else ()


registry = CollectorRegistry()
registry.register(Shared())
registry.register(Requests())


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def metrics(request: Request) -> HttpResponse:
    """Returns the metrics in the Prometheus text format, whatever `Accept` says."""
    # They span applications.
    require_admin_key(request)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
