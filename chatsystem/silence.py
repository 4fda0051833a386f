"""Connections that went silent: who gives one up says so, and whoever keeps others idle drops them.

Each of those would be waited for anew, by one request or task after the other. Documented in docs/reliability.md.
"""

from __future__ import annotations

from django.dispatch import Signal

#: Sent when an answer was waited for in vain. Receivers close what their process keeps and does not use now.
gone_silent = Signal()
