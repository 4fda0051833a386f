"""Every route. Which answer what is in docs/api.md."""

from django.contrib import admin
from django.urls import include, path

from chatsystem import health, metrics
from chatsystem.api.openapi import views as description
from chatsystem.api.routes import route

urlpatterns = [
    # The most asked first: each route is tried until one fits.
    path("", include("messages_app.urls")),
    path("", include("chats.urls")),
    path("", include("applications.urls")),
    path("", include("search.urls")),
    *route("health/live", health.live, "live"),
    *route("health/ready", health.ready, "ready"),
    *route("metrics", metrics.metrics, "metrics"),
    *route("openapi.json", description.openapi, "openapi"),
    *route("docs", description.docs, "docs"),
    path("admin/operations/", include("chatsystem.backoffice.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "chatsystem.api.errors.bad_request"
handler403 = "chatsystem.api.errors.permission_denied"
handler404 = "chatsystem.api.errors.not_found"
handler500 = "chatsystem.api.errors.server_error"
