"""Formats gunicorn's log lines like all others. Documented in docs/logs.md."""

from __future__ import annotations

from logging.config import dictConfig
from typing import Any

from gunicorn.glogging import Logger

from chatsystem.logs import config


class GunicornLogger(Logger):
    """Applies the product's logging configuration.

    gunicorn's setting `logconfig_dict` would also turn on the access log, which contains each path.
    """

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        dictConfig(config.from_environ())
