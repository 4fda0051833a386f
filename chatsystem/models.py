"""What the hosts that share a database tell one another. Documented in docs/howto/several-hosts.md."""

from __future__ import annotations

from django.db import models


class HostConfiguration(models.Model):
    """What hosts must have in common, as one or more of them have it; empty where there is nothing to compare.

    It counts while some process shows up with it: see hosts.py.
    """

    #: A hash of the rest.
    id = models.CharField(primary_key=True, max_length=16)
    secret_key = models.CharField(max_length=16, help_text="Made with SECRET_KEY, which cannot be told from it.")
    search = models.CharField(max_length=200, help_text="Backend, and the prefix of its indexes.")
    search_index = models.CharField(max_length=16, help_text="Random id of the embedded index.")
    seen_at = models.DateTimeField(help_text="By the database's clock.")

    def __str__(self) -> str:
        return self.id
