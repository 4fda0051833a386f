"""gunicorn's own lines, in the shape of all others. Documented in docs/operations.md."""

from __future__ import annotations

from logging.config import dictConfig
from typing import Any

from gunicorn.glogging import Logger

from chatsystem.logs import config


class GunicornLogger(Logger):
    """gunicorn's setting for this, `logconfig_dict`, would also turn its access log on, which names each path."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        dictConfig(config.from_environ())
