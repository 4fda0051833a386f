"""Keeps the garbage collector away from what a worker has loaded."""

from __future__ import annotations

import gc


def freeze() -> None:
    """Leaves all present objects out of later collections. Call it once the application is loaded.

    A collection that walks through all of Django stops every thread for a tenth of a second. The objects of one large
    batch, or of a thousand new streams, are enough to start one.
    """
    gc.collect()
    gc.freeze()
