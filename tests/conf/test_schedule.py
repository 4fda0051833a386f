"""beat keeps its schedule when the wall clock is set back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from tests.support.harness import RealRedis, skip_or_fail
from tests.support.services import packages

#: Runs the real schedule without sending. Prints what was due before and after the clock was set back.
BEAT = """
import sys, threading, time
from pathlib import Path
from celery.beat import Scheduler
from chatsystem.celery import app

due = []

class Recorder(Scheduler):
    def apply_entry(self, entry, producer=None):
        due.append(entry.name)

def run(sweeps):
    # Until there were `sweeps`, or for much less than the clock is set back.
    until = time.monotonic() + 120
    while due.count("sweep-write-log") < sweeps and time.monotonic() < until:
        # Not time.sleep, which libfaketime breaks for the monotonic clock.
        threading.Event().wait(min(max(beat.tick(), 0.01), 0.1))

beat = Recorder(app=app)
run(1)
before = due.count("sweep-write-log")
Path(sys.argv[1]).write_text("-3600")
run(before + 2)
print(before, due.count("sweep-write-log") - before)
"""


def test_sweeps_continue_when_the_clock_is_set_back_by_an_hour(redis_server: RealRedis, tmp_path: Path) -> None:
    # Given a beat whose clock can be set,
    try:
        packages.ensure(["faketime"], "faketime")
    except packages.Missing as missing:
        skip_or_fail(missing)
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environ = {**os.environ, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}

    # when it is set back by an hour, then sweeps are still due every two seconds.
    # `env` removes the offset that faketime exports itself, which would override the file's.
    preloaded = ["faketime", "--exclude-monotonic", "-f", "+0", "env", "--unset=FAKETIME"]
    command = [*preloaded, sys.executable, "-c", BEAT, str(offset)]
    output = subprocess.run(command, cwd=settings.BASE_DIR, env=environ, check=True, capture_output=True, text=True)
    before, after = map(int, output.stdout.split())
    assert before >= 1
    assert after >= 2
