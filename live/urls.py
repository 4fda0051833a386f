"""The routes of live delivery that Django serves. Documented in docs/live.md."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
