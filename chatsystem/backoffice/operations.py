"""The operations page: live figures, and jobs to start. Documented in docs/operations.md."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from chatsystem.backoffice import job_runs, tasks
from chatsystem.backoffice.snapshot import snapshot
from chatsystem.jobs import Job
from chatsystem.writelog import ownership
from chatsystem.writelog.keys import PARTITIONS

logger = logging.getLogger(__name__)


@admin.site.admin_view
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    offers = [{"job": job, "allowed": _may(request, job)} for job in job_runs.all_jobs()]
    context = {"title": "Operations", "offers": offers, "partitions": range(PARTITIONS), "superseded": ownership.REASON}
    return _page(request, "backoffice/operations.html", context)


@never_cache
@require_safe
def snapshot_as_json(request: HttpRequest) -> HttpResponse:
    # A 403 instead of the admin's redirect to the login page, because a script requests this.
    if not admin.site.has_permission(request):
        raise PermissionDenied
    return JsonResponse(snapshot())


@admin.site.admin_view
def start(request: HttpRequest, name: str) -> HttpResponse:
    job = job_runs.job_named(name)
    if job is None:
        raise Http404
    # After a login the browser returns with GET.
    if request.method != "POST":
        return HttpResponseRedirect(reverse("operations:page"))
    if not _may(request, job):
        raise PermissionDenied
    if job.warning and "confirmed" not in request.POST:
        return _page(request, "backoffice/start.html", {"title": f"{job.label}?", "job": job})
    messages.add_message(request, *_started(job, request.user.get_username()))
    # To the job's row, so that keyboard focus stays there.
    return HttpResponseRedirect(f"{reverse('operations:page')}#{job.name}")


def _started(job: Job, by: str) -> tuple[int, str]:
    try:
        if not tasks.start(job, by):
            return messages.INFO, f"{job.label}: already running. Nothing was started."
    except Exception as error:  # Each cache and broker driver has its own exception classes.
        logger.warning("the job %s cannot be started: %s", job.name, type(error).__name__)
        return messages.ERROR, f"{job.label}: nothing was started, because the cache or the broker is down."
    logger.info("%s started the job %s", by, job.name)
    return messages.SUCCESS, f"{job.label}: queued. Its row below shows the progress."


def _may(request: HttpRequest, job: Job) -> bool:
    return request.user.has_perms(job.permissions())


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
