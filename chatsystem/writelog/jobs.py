"""The jobs that the admin can start. They do the same as the commands. Documented in docs/operations.md."""

from __future__ import annotations

from collections import Counter

from chatsystem.jobs import Job, Progress
from chatsystem.writelog import dead_events, stream
from chatsystem.writelog.counts import all_counts
from chatsystem.writelog.drain import drain_present
from chatsystem.writelog.models import DeadEvent


def _drain(progress: Progress) -> str:
    waiting = stream.lengths()
    progress.total = sum(waiting.values())
    stored = drain_present(waiting, progress)
    left = sum(stream.lengths().values())
    return f"{stored:,} events stored" + (f"; {left:,} have arrived meanwhile." if left else "; the log is empty.")


def _recount(progress: Progress) -> str:
    counts = all_counts()
    progress.total = sum(count.parent._default_manager.count() for count in counts)
    checked = drifted = 0
    for count in counts:
        for looked_at, drifts in count.verify(repair=True):
            checked += looked_at
            drifted += len(drifts)
            progress(looked_at)
    found = f"{drifted:,} had drifted and were repaired." if drifted else "no drift."
    return f"{checked:,} applications and chats counted: {found}"


def _replay(progress: Progress) -> str:
    # The replay reads each event again under its partition's lock. Until then key and partition are enough.
    events = list(dead_events.oldest_first(DeadEvent.objects.only("partition")))
    progress.total = len(events)
    outcomes: Counter[str] = Counter()
    for outcome in dead_events.replay_each(events):
        outcomes[outcome] += 1
        progress(1)
    if not events:
        return "There were no dead events."
    return "Of {:,} dead events: {}.".format(
        len(events), ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    )


DRAIN = Job(
    name="drain",
    label="Drain the log",
    does="Stores what the log holds, without waiting for the workers.",
    warning="",
    permissions=lambda: ["writelog.change_partition"],
    run=_drain,
)
RECOUNT = Job(
    name="recount",
    label="Recount",
    does="Counts the chats of every application and the messages of every chat, and repairs the counts that differ.",
    warning="",
    permissions=lambda: [
        f"{count.parent._meta.app_label}.change_{count.parent._meta.model_name}" for count in all_counts()
    ],
    run=_recount,
)
REPLAY = Job(
    name="replay",
    label="Replay dead events",
    does="Tries to store every dead event again, oldest first. Those that are refused again stay, with their error.",
    warning="Fix the causes first: each event shows its error. An event whose cause remains is refused again.",
    permissions=lambda: ["writelog.change_deadevent"],
    run=_replay,
)
