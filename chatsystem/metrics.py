"""Metrics for Prometheus, of what all processes share: asked of each dependency when somebody looks.

Any process may answer, and none has anything to remember. Documented in docs/operations.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.http import HttpResponse
from django.utils.module_loading import import_string
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.request import Request

from chatsystem.api.access import require_admin_key
from chatsystem.api.negotiation import AnyAccept
from chatsystem.writelog import log
from chatsystem.writelog.models import DeadEvent

logger = logging.getLogger(__name__)


class Shared(Collector):
    """What waits where. A dependency that is away leaves its metrics out, and is told as not up."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("chatsystem_up", "1 when the dependency answers.", labels=["dependency"])
        for dependency, ask in {"state": _of_the_state, "database": _of_the_database}.items():
            try:
                found = list(ask())
            except Exception as error:  # whatever it is, the others still are to be asked
                logger.warning("no metrics of the %s: %s", dependency, type(error).__name__)
                up.add_metric([dependency], 0)
            else:
                up.add_metric([dependency], 1)
                yield from found
        yield up


def _of_the_state() -> Iterator[Metric]:
    backlog = log.backlog()
    yield GaugeMetricFamily("chatsystem_log_events", "Acknowledged events that are not stored yet.", backlog.events)
    yield GaugeMetricFamily("chatsystem_log_age_seconds", "Age of the oldest of them.", backlog.seconds)


def _of_the_database() -> Iterator[Metric]:
    dead = DeadEvent.objects.count()
    yield GaugeMetricFamily("chatsystem_dead_events", "Acknowledged events that the database refused.", dead)
    # Named by string, like all wiring: imports run from the search room to this one.
    lag = import_string("search.outbox.lag")()
    yield GaugeMetricFamily("chatsystem_outbox_entries", "Stored changes that are not indexed yet.", lag.entries)
    yield GaugeMetricFamily("chatsystem_index_lag_seconds", "Age of the oldest of them.", lag.seconds)


registry = CollectorRegistry()
registry.register(Shared())


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def metrics(request: Request) -> HttpResponse:
    """What crosses applications is for those with the admin key."""
    require_admin_key(request)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
