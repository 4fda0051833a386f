"""All routes. docs/api.md documents them."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from chatsystem.api.openapi import views as description
from chatsystem.api.routing import route
from chatsystem.monitoring import health, metrics

urlpatterns = [
    # The most frequent first: Django tries the routes in order.
    path("", include("messages_app.urls")),
    path("", include("chats.urls")),
    path("", include("applications.urls")),
    path("", include("search.urls")),
    path("", include("live.urls")),
    path("", include("chatsystem.website.urls")),
    *route("health/live", health.live, "live"),
    *route("health/ready", health.ready, "ready"),
    *route("metrics", metrics.metrics, "metrics"),
    *route("openapi.json", description.openapi, "openapi"),
    *route("docs", description.docs, "docs"),
    path("admin", RedirectView.as_view(pattern_name="admin:index", query_string=True)),
    path("admin/operations/", include("chatsystem.backoffice.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "chatsystem.api.errors.bad_request"
handler403 = "chatsystem.api.errors.permission_denied"
handler404 = "chatsystem.api.errors.not_found"
handler500 = "chatsystem.api.errors.server_error"
