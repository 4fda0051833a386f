"""Starts the product, tells when it is ready, keeps supervisord alive, and ends all of it in order."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from chatsystem.embedded import redis_server
from chatsystem.embedded.launch import PARENT
from chatsystem.embedded.options import BASE_DIR, Options
from chatsystem.embedded.refusal import Refusal
from chatsystem.live import headers

#: What asks the runner to stop.
STOP = signal.SIGTERM
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds to answer requests in, counted from when Redis has read its log.
READY_TIMEOUT = 60.0
#: Seconds between two looks at the processes.
LOOK = 0.1
#: Seconds between two notes about a Redis that still reads its log.
NOTE = 5.0


def run(options: Options) -> int:
    """Returns when the user asked to stop and everything has ended."""
    runner = Runner(options)
    for number in STOP_SIGNALS:
        signal.signal(number, runner.ask_to_stop)
    try:
        runner.migrate()
        runner.start()
        if runner.wait_until_ready():
            print(greeting(options), flush=True)
        runner.watch()
    finally:
        runner.stop()
    return 0


class Runner:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.stopping = False
        self.supervisord: subprocess.Popen[bytes] | None = None

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        # Nothing but this: a signal may come while another one is handled, or in the middle of a print.
        self.stopping = True

    def migrate(self) -> None:
        log = self.options.data_dir.logs / "migrate.log"
        with log.open("wb") as output:
            migration = self._launch("migrate", output.fileno())
            while migration.poll() is None:
                if self.stopping:
                    migration.terminate()
                time.sleep(LOOK / 10)
        if migration.returncode and not self.stopping:
            raise Refusal(f"The database cannot be migrated: {_reason(log)} (all of it is in {log}).")

    def start(self) -> None:
        if not self.stopping:
            # It has a log of its own, but not yet when its configuration is wrong.
            with (self.options.data_dir.logs / "start.log").open("wb") as output:
                self.supervisord = self._launch("supervisord", output.fileno())

    def wait_until_ready(self) -> bool:
        """False when the user stopped it before; raises when it takes too long."""
        deadline = time.monotonic() + READY_TIMEOUT
        next_note = time.monotonic() + 1
        while not self.stopping:
            if is_ready(self.options):
                return not self.stopping
            redis = redis_server.ping(self.options.data_dir) if self.options.own_redis else "not ours"
            if redis.startswith("LOADING"):
                deadline = time.monotonic() + READY_TIMEOUT
                if time.monotonic() > next_note:
                    megabytes = redis_server.size(self.options.data_dir.redis) // 2**20
                    _say(f"Redis reads its log ({megabytes} MB).")
                    next_note = time.monotonic() + NOTE
            if time.monotonic() > deadline:
                log = self.options.data_dir.logs / ("redis.log" if redis == "" else "web.log")
                raise Refusal(f"The API did not become ready within {READY_TIMEOUT:.0f} s; see {log}.")
            self._revive()
            time.sleep(LOOK)
        return False

    def watch(self) -> None:
        while not self.stopping:
            self._revive()
            time.sleep(LOOK)

    def stop(self) -> None:
        """supervisord stops its programs one after the other, each with a time limit, so this wait ends."""
        if self.supervisord is not None:
            _say("Stopping: web, beat, worker, then Redis.")
            self.supervisord.terminate()
            self.supervisord.wait()

    def _revive(self) -> None:
        """Starts supervisord again when it was killed; its programs ended with it."""
        if self.supervisord is not None and self.supervisord.poll() is not None:
            _say("supervisord ended by itself and is started again.")
            self.start()
            # One that cannot start shall not keep the machine busy.
            time.sleep(1)

    def _launch(self, program: str, output: int) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for the runner alone, which then stops the others in order.
        return subprocess.Popen(
            [sys.executable, "-m", "chatsystem.embedded.launch", program],
            cwd=BASE_DIR,
            env=_environ(self.options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _environ(options: Options) -> dict[str, str]:
    """supervisord finds Python by its name: a path in the configuration could hold signs that mean something there."""
    python = Path(sys.executable)
    return {
        **options.environ(),
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(BASE_DIR), os.environ.get("PYTHONPATH")])),
        "PYTHON_NAME": python.name,
        PARENT: str(os.getpid()),
    }


def is_ready(options: Options) -> bool:
    """Whether writes are accepted."""
    address = urlsplit(options.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    try:
        connection.request("GET", "/health/ready", headers=headers())
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def greeting(options: Options) -> str:
    chosen = f" DATA_DIR={shlex.quote(os.environ['DATA_DIR'])}" if os.environ.get("DATA_DIR") else ""
    return f"""
The chat backend is ready: {options.url}

  Try it     curl -d '{{"name": "My app"}}' -H 'Content-Type: application/json' {options.url}/applications
             curl {options.url}/applications
  Read       {options.url}/docs tells every request, and sends it
  Admin      make admin{chosen} creates a user for {options.url}/admin/
  Data       {options.data_dir.root}
  Logs       {options.data_dir.logs}
  Stop       Ctrl-C
"""


def _reason(log: Path) -> str:
    """Why a migration failed: what the system checks found, with their hints, else the last line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    if "ERRORS:" in lines:
        lines = [" ".join(line.strip() for line in lines[lines.index("ERRORS:") + 1 :])]
    return lines[-1].rstrip(".") if lines else "it was killed"


def _say(sentence: str) -> None:
    print(sentence, flush=True)
