"""What the tests' Redis servers have in common: a process to start, kill and restart, and a client that asks once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.product import PATIENCE, eventually


def connect(**options: Any) -> Any:
    """Returns a client that tries once, and waits for the answer.

    By default it tries for three seconds, also when a Redis is still starting, and waits for five.
    """
    return redis.Redis(**{"socket_timeout": PATIENCE, **options}, retry=Retry(NoBackoff(), 0))


class RedisProcess:
    """Not started yet. `client` must be allowed to send PING."""

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        command: Sequence[object],
        client: Any,
        environ: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """With `environ` instead of the tests' environment. `before` is called in the process."""
        self.command = [str(word) for word in command]
        self.client, self.environ, self.before = client, environ, before

    def start(self) -> None:
        """Starts it on the data that it has, and waits until it has read them."""
        self.process = subprocess.Popen(
            self.command, env=self.environ, stdout=subprocess.DEVNULL, preexec_fn=self.before
        )
        try:
            eventually(self._answers)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"Redis ended with {self.process.returncode}"
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:  # Also while it is loading its data.
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Restarts it on the same data."""
        self.kill()
        self.start()
