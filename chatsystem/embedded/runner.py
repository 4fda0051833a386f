"""Starts the product, reports when it is ready, restarts a killed supervisord, and stops everything in order."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from chatsystem.conf.data_dir import BASE_DIR
from chatsystem.conf.environment import env, given
from chatsystem.conf.startup import StartupError
from chatsystem.embedded import redis_server
from chatsystem.embedded.console import say
from chatsystem.embedded.launch import PARENT
from chatsystem.embedded.options import Options
from chatsystem.server.healthcheck import headers

#: The signals that stop the runner.
STOP = signal.SIGTERM
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds until the API must answer, counted from when Redis has read its log.
READY_TIMEOUT = 60.0
#: Seconds between two checks of the processes.
INTERVAL = 0.1
#: Seconds until a start prints what it waits for, and between two such notes.
FIRST_NOTE, NOTE = 2.0, 5.0
#: Seconds for everything besides the API to become healthy, before the greeting names what is not.
SETTLE = 10.0
#: How often a program may end before the API is ready. Then the start fails.
MAX_ENDS = 3


def run(options: Options) -> int:
    """Runs the product until the user stops it and everything has ended."""
    runner = Runner(options)
    for number in STOP_SIGNALS:
        # nohup makes a process ignore SIGHUP.
        if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:
            signal.signal(number, runner.ask_to_stop)
    try:
        runner.prepare()
        runner.start()
        if runner.wait_until_ready():
            say(greeting(options, runner.wait_until_settled()))
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
        # Only sets a flag: a signal may arrive during another one or during a print.
        self.stopping = True

    def prepare(self) -> None:
        """Runs prepare.py, and prints its messages."""
        log = self.options.data_dir.logs / "migrate.log"
        notes = Notes()
        with log.open("wb") as output:
            preparation = self._launch("migrate", subprocess.PIPE, output.fileno())
            while preparation.poll() is None:
                if self.stopping:
                    preparation.terminate()
                notes.waiting_for("the configured services and the migration of the database")
                time.sleep(INTERVAL / 10)
        sentences = preparation.communicate()[0].decode(errors="replace").splitlines()
        if not preparation.returncode:
            for sentence in sentences:
                say(f"make run: {sentence}")
        elif not self.stopping:
            raise StartupError(sentences[-1] if sentences else _failure(log))

    def start(self) -> None:
        if not self.stopping:
            # supervisord has its own log, but not while it reads its configuration.
            with (self.options.data_dir.logs / "start.log").open("wb") as output:
                self.supervisord = self._launch("supervisord", output.fileno(), subprocess.STDOUT)

    def wait_until_ready(self) -> bool:
        """Returns False when the user stops the start. Raises StartupError when it fails or takes too long."""
        deadline = time.monotonic() + READY_TIMEOUT
        notes = Notes()
        ends = Ends(self.options.data_dir.logs / "supervisord.log")
        while not self.stopping:
            readiness = ask_readiness(self.options)
            if readiness and readiness.accepting:
                return not self.stopping
            redis = redis_server.ping(self.options.data_dir) if self.options.own_redis else "not ours"
            if redis.startswith("LOADING"):
                deadline = time.monotonic() + READY_TIMEOUT
                megabytes = redis_server.size(self.options.data_dir.redis) // 2**20
                reason = f"Redis, which reads its log ({megabytes} MB)"
            elif redis == "":
                reason = "Redis"
            elif readiness:
                if readiness.is_superseded:
                    # This host takes over when the owner is gone.
                    deadline = time.monotonic() + READY_TIMEOUT
                reason = f"the API, which does not accept writes yet: {readiness.trouble}"
            else:
                reason = "the API"
            notes.waiting_for(reason)
            self._expect_alive(ends)
            if time.monotonic() > deadline:
                log = self.options.data_dir.logs / ("redis.log" if redis == "" else "web.log")
                raise StartupError(f"It is not ready after {READY_TIMEOUT:.0f} s of waiting for {reason}; see {log}.")
            self._revive()
            time.sleep(INTERVAL)
        return False

    def wait_until_settled(self) -> str:
        """Returns what is not healthy SETTLE seconds after the API is ready. Workers and the index need a moment."""
        deadline = time.monotonic() + SETTLE
        notes = Notes()
        trouble = ""
        while not self.stopping and time.monotonic() < deadline:
            readiness = ask_readiness(self.options)
            trouble = readiness.trouble if readiness else "the API does not answer"
            if not trouble:
                break
            notes.waiting_for(f"the rest: {trouble}")
            self._revive()
            time.sleep(INTERVAL)
        return trouble

    def _expect_alive(self, ends: Ends) -> None:
        for program in ("redis", "web"):
            if ends.count(program) >= MAX_ENDS:
                log = self.options.data_dir.logs / f"{program}.log"
                raise StartupError(f"{program} ends as soon as it starts: {_reason(log)} (all of it is in {log}).")

    def watch(self) -> None:
        while not self.stopping:
            self._revive()
            time.sleep(INTERVAL)

    def stop(self) -> None:
        """Stops supervisord. It stops its programs in order, each with a time limit, so the wait ends."""
        if self.supervisord is not None:
            say("Stopping: web, live, beat, worker, then Redis.")
            self.supervisord.terminate()
            self.supervisord.wait()

    def _revive(self) -> None:
        """Restarts supervisord when it was killed. Its programs ended with it."""
        if self.supervisord is not None and self.supervisord.poll() is not None:
            say("supervisord ended unexpectedly; restarting it.")
            self.start()
            # A supervisord that cannot start must not keep the machine busy.
            time.sleep(1)

    def _launch(self, program: str, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        # A new session: Ctrl-C reaches the runner only, which then stops the others in order.
        return subprocess.Popen(
            [sys.executable, "-m", "chatsystem.embedded.launch", program],
            cwd=BASE_DIR,
            env=_environ(self.options),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


def _environ(options: Options) -> dict[str, str]:
    """Returns the environment of a program. supervisord finds Python by its name on the PATH.

    A path in its configuration could contain characters with a special meaning.
    """
    python = Path(sys.executable)
    return {
        **options.environ(),
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(BASE_DIR),
        "PYTHON_NAME": python.name,
        PARENT: str(os.getpid()),
    }


class Notes:
    """Prints what a start waits for, after a while and then repeatedly."""

    def __init__(self) -> None:
        self.next = time.monotonic() + FIRST_NOTE

    def waiting_for(self, what: str) -> None:
        if time.monotonic() > self.next:
            say(f"Waiting for {what}.")
            self.next = time.monotonic() + NOTE


class Ends:
    """Counts how often each program has ended, by supervisord's log from now on."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.begin = log.stat().st_size if log.exists() else 0

    def count(self, program: str) -> int:
        try:
            with self.log.open("rb") as file:
                file.seek(self.begin)
                return Counter(re.findall(rb"exited: (\w+) ", file.read()))[program.encode()]
        except FileNotFoundError:
            return 0


@dataclass(frozen=True)
class Readiness:
    """The answer of /health/ready."""

    accepting: bool
    #: The dependencies that are not ok, with the reason; empty when all are.
    trouble: str

    @property
    def is_superseded(self) -> bool:
        """Whether the database accepts events from another host's Redis only."""
        return "superseded" in self.trouble


#: The setting that names each dependency of /health/ready.
SETTINGS = {
    "state": "REDIS_URL",
    "database": "DATABASE_URL",
    "search": "ELASTICSEARCH_URL",
    "workers": "CELERY_BROKER_URL",
}
#: The log that tells more than that of the web processes.
LOGS = {"workers": "worker.log", "live": "live.log"}


def ask_readiness(options: Options) -> Readiness | None:
    """Returns the readiness, or None while the API does not answer."""
    address = urlsplit(options.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    try:
        connection.request("GET", "/health/ready", headers=headers())
        answer = connection.getresponse()
        states = json.loads(answer.read())["dependencies"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
    troubles = [f"{name} {state}{_hint(options, name)}" for name, state in states.items() if state != "ok"]
    return Readiness(answer.status == http.HTTPStatus.OK, "; ".join(troubles))


def _hint(options: Options, dependency: str) -> str:
    log = options.data_dir.logs / LOGS.get(dependency, "web.log")
    setting = SETTINGS.get(dependency, "")
    if not setting and dependency not in LOGS:
        return ""
    return f" (look at {setting if setting and given(setting) else log})"


def greeting(options: Options, trouble: str) -> str:
    chosen = f" DATA_DIR={shlex.quote(os.environ['DATA_DIR'])}" if given("DATA_DIR") else ""
    listens = f"{options.netloc}{', every address of this machine' if options.everywhere else ''}"
    curl = f"curl{_headers()}"
    demo = f"  Chat       {options.url}/demo shows it, live\n" if options.demo else ""
    degraded = f"\n  Degraded   {trouble}" if trouble else ""
    return f"""
The chat backend is ready: {options.url}
{degraded}
  Listens    {listens}
  Try it     {curl} -d '{{"name": "My app"}}' -H 'Content-Type: application/json' {options.url}/applications
             {curl} {options.url}/applications
{demo}  Read       {options.url}/docs lists every request and lets you try it
  Admin      make admin{chosen} creates a user for {options.url}/admin/
  Data       {options.data_dir.root}
  Logs       {options.data_dir.logs}
  Stop       Ctrl-C
"""


def _headers() -> str:
    """Returns the curl options that the settings require. Never the key itself: a terminal keeps its text."""
    found = []
    if given("ADMIN_API_KEY"):
        found.append('"Authorization: Bearer $ADMIN_API_KEY"')
    if given("ALLOWED_HOSTS") and not {"*", "localhost", "127.0.0.1"} & set(env.words("ALLOWED_HOSTS", [])):
        found.append(f"'Host: {headers()['Host']}'")
    if env.bool("HTTPS_ONLY", False):
        found.append("'X-Forwarded-Proto: https'")
    return "".join(f" -H {header}" for header in found)


def _failure(log: Path) -> str:
    """Returns why a migration failed: the errors and hints of the system checks, or else the last line."""
    found = re.search(r"^ERRORS:\n(.+?)(?:\n\n|\Z)", log.read_text(errors="replace"), re.MULTILINE | re.DOTALL)
    if found is None:
        return f"The database cannot be migrated: {_reason(log)} (all of it is in {log})."
    return re.sub(r"\?: \(\S+\) |HINT: ", "", " ".join(found[1].split()))


def _reason(log: Path) -> str:
    """Returns why a program ended: the last line of its log."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), "it was killed")
