"""Signals of the messages."""

from django.dispatch import Signal

#: Messages were stored or changed. Sent by the drain inside its transaction, with `numbers`: chat id → message numbers,
#: and `applications`: chat id → application id.
messages_stored = Signal()
