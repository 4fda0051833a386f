"""Signals that cross packages."""

from __future__ import annotations

from django.dispatch import Signal

#: Sent when a server did not answer within its timeout. Receivers close their idle connections to it, which are
#: probably stale too: each would cost the next request or task another timeout. Documented in docs/reliability.md.
connection_stale = Signal()
