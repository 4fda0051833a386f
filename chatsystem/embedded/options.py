"""What the user chooses: PORT, BIND, DATA_DIR and WORKERS, all from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chatsystem.data_dir import DataDir
from chatsystem.embedded.refusal import Refusal

BASE_DIR = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Options:
    port: int
    #: The address that gunicorn listens on. Not 0.0.0.0 by default: routes are open unless ADMIN_API_KEY is set.
    bind: str
    data_dir: DataDir
    #: Celery processes, which is also how many drains run at once.
    workers: int
    #: False where REDIS_URL names a Redis that somebody else runs.
    own_redis: bool

    @classmethod
    def from_environ(cls) -> Options:
        root = os.environ.get("DATA_DIR") or str(BASE_DIR / "data")
        return cls(
            port=_number("PORT", 8000, 1, 65_535),
            bind=os.environ.get("BIND") or "127.0.0.1",
            data_dir=DataDir(Path(root).resolve()),
            workers=_number("WORKERS", 5, 1, 64),
            own_redis=not os.environ.get("REDIS_URL"),
        )

    @property
    def netloc(self) -> str:
        """Host and port as gunicorn and URLs write them."""
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def url(self) -> str:
        """Where this machine reaches the API."""
        everywhere = {"0.0.0.0": f"127.0.0.1:{self.port}", "::": f"[::1]:{self.port}"}
        return f"http://{everywhere.get(self.bind, self.netloc)}"

    def environ(self) -> dict[str, str]:
        """What every process below the runner gets. Its DATA_DIR also tells whose processes they are."""
        return {
            **os.environ,
            "BIND": self.bind,
            "DATA_DIR": str(self.data_dir.root),
            "DJANGO_SETTINGS_MODULE": "chatsystem.settings",
            "OWN_REDIS": str(self.own_redis).lower(),
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "WORKERS": str(self.workers),
        }


def _number(name: str, default: int, smallest: int, largest: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and smallest <= int(text) <= largest):
        raise Refusal(f"{name} has to be a number from {smallest} to {largest}, not {text!r}.")
    return int(text)
