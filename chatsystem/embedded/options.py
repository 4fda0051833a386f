"""The options of `make run`: PORT, BIND, DATA_DIR and WORKERS, from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from environs import validate

from chatsystem.conf.data_dir import DataDir
from chatsystem.conf.environment import env, given, without_foreign


@dataclass(frozen=True)
class Options:
    port: int
    #: The address that gunicorn listens on. By default not 0.0.0.0, since routes are open unless ADMIN_API_KEY is set.
    bind: str
    data_dir: DataDir
    #: Number of Celery processes. One of them runs the long tasks and the others drain; a single one does both.
    workers: int
    #: False when REDIS_URL names a Redis, which is not started here.
    own_redis: bool
    #: True unless DEMO says otherwise: `make run` is where people try the product.
    demo: bool

    @classmethod
    def from_environ(cls) -> Options:
        return cls(
            port=env.int("PORT", 8000, validate=validate.Range(1, 65_535)),
            # Accepts an IPv6 address in brackets, as in URLs, or without, as in sockets.
            bind=env.str("BIND", "127.0.0.1").removeprefix("[").removesuffix("]"),
            data_dir=DataDir.from_environ(),
            workers=env.int("WORKERS", 5, validate=validate.Range(1, 64)),
            own_redis=not given("REDIS_URL"),
            demo=env.bool("DEMO", True),
        )

    @property
    def netloc(self) -> str:
        """Host and port as gunicorn and URLs write them."""
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def everywhere(self) -> bool:
        """Whether it listens on every address of this machine."""
        return self.bind in ("0.0.0.0", "::")

    @property
    def url(self) -> str:
        """The API's URL on this machine."""
        here = "[::1]" if self.bind == "::" else "127.0.0.1"
        return f"http://{here}:{self.port}" if self.everywhere else f"http://{self.netloc}"

    def environ(self) -> dict[str, str]:
        """Returns the environment of all processes below the runner. DATA_DIR in it also identifies them."""
        return {
            **without_foreign(os.environ),
            "BACKGROUND_WORKER": str(self.workers > 1).lower(),
            "BIND": self.bind,
            "DATA_DIR": str(self.data_dir.root),
            "DEMO": str(self.demo).lower(),
            "DJANGO_SETTINGS_MODULE": "chatsystem.settings",
            # Redis ends when the locale is not installed. Python would take its encoding from the locale.
            "LC_ALL": "C",
            "PYTHONUTF8": "1",
            "OWN_REDIS": str(self.own_redis).lower(),
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "WORKERS": str(self.workers),
        }
