"""What the messages room tells whoever follows it."""

from django.dispatch import Signal

#: Messages were stored or changed. Sent by the drain inside its transaction, with `numbers`: chat id → message numbers.
messages_stored = Signal()
