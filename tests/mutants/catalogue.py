"""The mutants: what each breaks, by which edit, and where it has to be seen."""

from __future__ import annotations

from dataclasses import dataclass

APPEND = "tests/writelog/test_append.py"
DRAIN = "tests/writelog/test_drain.py"
FENCE = "tests/writelog/test_fence.py"
HINTS = "tests/writelog/test_hints.py"
BEHIND = "tests/writelog/test_database_behind.py"
IDEMPOTENCY = "tests/api/test_idempotency.py"
ISOLATION = "tests/api/test_isolation.py"
KEPT = "tests/api/test_kept.py"
READS = "tests/api/test_read_your_writes.py"
UNAVAILABLE = "tests/api/test_unavailable.py"
OUTBOX = "tests/search/test_outbox.py -k fts5"
MODEL = "tests/model --hypothesis-profile=mutants"
KILLS = "tests/faults/test_sigkill_everything.py"


@dataclass(frozen=True)
class Mutant:
    """`edits` are (file, text, what takes its place); each text is in its file exactly once."""

    name: str
    breaks: str
    edits: tuple[tuple[str, str, str], ...]
    #: What pytest is given, in order, until something fails.
    tests: tuple[str, ...]
    database: str = "sqlite"


def edit(file: str, old: str, new: str) -> tuple[tuple[str, str, str], ...]:
    """In the write log's room, unless `file` names another."""
    room = "chatsystem/writelog/" if file.startswith("lua/") or "/" not in file else ""
    return ((room + file, old, new),)


MUTANTS = [
    Mutant(
        "no fence",
        "a restarted or restored Redis goes on from the numbers that it remembers",
        edit("lua/append.lua", "if passed_by ~= incarnation then return {'fence'} end", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "fence that trusts every clock",
        "a Redis that is restored to an older state goes on from the numbers of then",
        edit("lua/pass.lua", "if lineage and clock and tonumber(clock) >= drained_through then", "if lineage then"),
        (APPEND, MODEL),
    ),
    Mutant(
        "numbers of every lineage",
        "after a loss, a number from before it is trusted",
        edit("lua/append.lua", "  if told_in ~= lineage then return {'seed'} end\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "absent counter means 0",
        "a flushed Redis numbers from 1 again",
        edit(
            "lua/append.lua",
            "  if not number then return {'seed'} end\n",
            "  number = number or '0 ' .. lineage\n",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "acknowledged without an append",
        "a client is told 201 although Redis never answered",
        edit(
            "log.py",
            "            if delay is None:\n                raise\n",
            "            if delay is None:\n"
            "                return Answer('ok', int(time.time() * 1_000_000), write.name or '1')\n",
        ),
        (UNAVAILABLE, KILLS),
    ),
    Mutant(
        "receipt before the limit",
        "a request that was refused is answered as accepted when it is repeated",
        edit(
            "lua/append.lua",
            "if used_events > tonumber(max_events)",
            "redis.call('SET', receipt_key, fingerprint .. ' 1 1', 'EX', lifetime)\n"
            "if used_events > tonumber(max_events)",
        ),
        (UNAVAILABLE,),
    ),
    Mutant(
        "removed before the commit",
        "a drain that dies between the two loses what it has read",
        edit(
            "drain.py",
            "        through = max(row.drained_through, events[-1].arrival)\n",
            "        through = max(row.drained_through, events[-1].arrival)\n"
            "        log.remove(partition, through, events, dead_arrivals)\n",
        ),
        (DRAIN, MODEL, KILLS),
    ),
    Mutant(
        "trimmed by count",
        "a removal that comes late takes what nobody has stored",
        edit(
            "lua/remove.lua",
            "redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', through + 1))",
            "redis.call('XTRIM', log_key, 'MAXLEN', math.max(0, redis.call('XLEN', log_key) - #paths))",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "mark ignored",
        "what is in the log is stored, and counted, again",
        edit("drain.py", "[event for event in events if event.arrival > row.drained_through]", "events"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "mark after the commit",
        "a drain that dies between the two leaves events that are stored and do not look it",
        edit(
            "drain.py",
            '        row.save(update_fields=["drained_through"])\n',
            '    row.save(update_fields=["drained_through"])\n',
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "first writer wins",
        "an update in the log loses against what is stored",
        edit("rows.py", "if row.last_request_time < moment:", "if row.last_request_time > moment:"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "last in the batch wins",
        "of two updates in one batch an older one is stored",
        edit("events.py", "if earlier and earlier.arrival > arrival:", "if False and earlier:"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "lease in place of the row lock",
        "a killed drain blocks its partition until the lease is over, and a slow one shares it after that",
        edit(
            "partitions.py",
            "    with transaction.atomic(durable=True):\n",
            "    from chatsystem.writelog.state import client\n\n"
            '    lease = client().lock(f"{{{partition}}}:lease", timeout=10)\n'
            "    taken = lease.acquire(blocking=not skip)\n"
            "    with transaction.atomic(durable=True):\n",
        )
        + edit(
            "partitions.py",
            "Partition.objects.select_for_update(skip_locked=skip).filter(pk=partition).first()",
            "Partition.objects.filter(pk=partition).first() if taken else None",
        )
        + edit("partitions.py", "        yield row\n", "        yield row\n    if taken:\n        lease.release()\n"),
        ("tests/mysql/test_locks.py",),
        database="mariadb",
    ),
    Mutant(
        "no row lock",
        "two drains store the same events",
        edit("partitions.py", "Partition.objects.select_for_update(skip_locked=skip)", "Partition.objects"),
        ("tests/mysql/test_locks.py", DRAIN),
        database="mariadb",
    ),
    Mutant(
        "no idempotency on a retry",
        "append is sent again under another request id",
        edit(
            "log.py",
            "                status, *rest = _append(connection, call_keys, arguments)\n",
            '                call_keys[-1] = keys.receipt(request_id.scope, f"{request_id.id} {time.monotonic_ns()}")\n'
            "                status, *rest = _append(connection, call_keys, arguments)\n",
        ),
        (APPEND, IDEMPOTENCY),
    ),
    Mutant(
        "no receipts",
        "a repeated request is another write",
        edit(
            "lua/append.lua",
            "redis.call('SET', receipt_key, fingerprint .. ' ' .. whole(arrival) .. ' ' .. name, 'EX', lifetime)\n",
            "",
        ),
        (APPEND, IDEMPOTENCY),
    ),
    Mutant(
        "outbox after the commit",
        "a drain that dies between the two leaves messages that no search finds",
        edit(
            "messages_app/persist.py",
            "    messages_stored.send(sender=Message, numbers=numbers)\n",
            "    from django.db import transaction\n\n"
            "    transaction.on_commit(lambda: messages_stored.send(sender=Message, numbers=numbers))\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "outbox forgets first",
        "an indexer that dies leaves messages that no search finds",
        edit(
            "search/outbox.py",
            "    get_backend().index(list(of_numbers(pair for entry in entries for pair in entry.messages)))\n"
            "    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries]).delete()\n",
            "    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries]).delete()\n"
            "    get_backend().index(list(of_numbers(pair for entry in entries for pair in entry.messages)))\n",
        ),
        (OUTBOX,),
    ),
    Mutant(
        "index without version",
        "an indexer that comes late puts an old text in place of a new one",
        edit("search/backends/fts5.py", "if held.get(document.id, -1) <= document.version]", "]"),
        ("tests/search/test_fts5.py",),
    ),
    Mutant(
        "database before the pending view",
        "a list misses what a drain stores between the two",
        (
            (
                "chatsystem/writelog/reads.py",
                "    pending = log.pending_children("
                "token, parent, window.low, window.high, window.limit, window.from_low)\n",
                "",
            ),
            (
                "chatsystem/writelog/reads.py",
                "    def run() -> Run[R]:\n        all_stored = stored()\n",
                "    all_stored = stored()\n"
                "    found = {} if all_stored is None else read(all_stored)\n"
                "    pending = log.pending_children("
                "token, parent, window.low, window.high, window.limit, window.from_low)\n"
                "\n"
                "    def run() -> Run[R]:\n",
            ),
            ("chatsystem/writelog/reads.py", "        found = {} if all_stored is None else read(all_stored)\n", ""),
        ),
        (READS, MODEL),
    ),
    Mutant(
        "message before its pending view",
        "the same for one message",
        (
            (
                "messages_app/selectors.py",
                '    pending = log.pending(token, f"{token}/{chat_number}/{number}")\n    row =',
                "    row =",
            ),
            (
                "messages_app/selectors.py",
                '    message = overlay(row, pending, "body"',
                '    pending = log.pending(token, f"{token}/{chat_number}/{number}")\n'
                '    message = overlay(row, pending, "body"',
            ),
        ),
        (READS, MODEL),
    ),
    Mutant(
        "reads without the pending view",
        "what is acknowledged cannot be read until it is stored",
        edit("reads.py", "    if pending is None:\n", "    if True:\n"),
        (READS, MODEL),
    ),
    Mutant(
        "kept page of every version",
        "a page from the cache misses what was acknowledged since",
        edit("lua/page.lua", "clock .. ' ' .. fence", "fence"),
        (KEPT,),
    ),
    Mutant(
        "kept page of every Redis",
        "a page from the cache misses what was stored since the state that Redis was restored to",
        edit("lua/page.lua", " and string.match(fence, ' (%x+)$') == incarnation", ""),
        (KEPT,),
    ),
    Mutant(
        "kept page of a discarded message",
        "a page from the cache shows what somebody has discarded",
        edit("lua/withdraw.lua", "if clock then", "if false then"),
        (KEPT,),
    ),
    Mutant(
        "fence passed without the row lock",
        "a drain stores what a Redis that passes meanwhile has lost",
        edit(
            "seed.py",
            "    with locked(partition) as row:\n"
            "        assert row is not None\n"
            "        # Held until Redis has decided",
            "    from chatsystem.writelog.models import Partition\n\n"
            "    if row := Partition.objects.get(pk=partition):\n        # Held until Redis has decided",
        ),
        (FENCE, APPEND),
    ),
    Mutant(
        "seed without a drain",
        "a number is given again that waits in the log",
        edit("seed.py", "    drain(partition)\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "seed forgets what Redis remembers",
        "a number is given again that an older database has lost",
        edit("lua/seed.lua", "math.max(tonumber(last_number), tonumber(remembered))", "tonumber(last_number)"),
        (BEHIND,),
    ),
    Mutant(
        "seed forgets dead events",
        "the number of a dead event is given again",
        edit("seed.py", "max(number, _last_dead(partition, parent))", "number"),
        (APPEND, MODEL),
    ),
    Mutant(
        "seed forgets discarded events",
        "the number of a discarded event is given again after a flush",
        edit("seed.py", "(DeadEvent, DiscardedEvent)", "(DeadEvent,)"),
        (FENCE, APPEND, "tests/admin/test_dead_events.py"),
    ),
    Mutant(
        "arrival from the wall clock",
        "a clock that is set back makes new writes older than what they change",
        edit(
            "lua/append.lua",
            "math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(clock) + 1)",
            "tonumber(time[1]) * 1000000 + tonumber(time[2])",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "clock seeded without the database",
        "after a flush, new writes are older than what they change",
        edit(
            "lua/pass.lua",
            "math.max(drained_through, tonumber(clock or 0)) + 1",
            "tonumber(clock or 0) + 1",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "sweep does nothing",
        "what a lost hint left behind is never stored",
        edit("tasks.py", "    for partition in log.lengths():\n", "    for partition in ():\n"),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint never cleared",
        "for two seconds after a hint, writes ask for no drain",
        edit("drain.py", "log.begin_drain(partition)", "log.length(partition)"),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint cleared after the drain",
        "a write that comes in the middle of a drain asks for none, and is left behind",
        edit("drain.py", "log.begin_drain(partition)", "log.length(partition)")
        + edit("drain.py", "    return drained\n", "    log.begin_drain(partition)\n    return drained\n"),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint taken for an answer",
        "a write during a drain is left behind when the drain that it asked for found the partition taken",
        edit("drain.py", "(count == BATCH or not left.hinted)", "count == BATCH"),
        (HINTS, MODEL),
    ),
    Mutant(
        "no bisection",
        "a bad event takes its whole batch with it",
        edit(
            "drain.py",
            "        half = len(events) // 2\n        return store(events[:half]) + store(events[half:])\n",
            "        return [(event, error) for event in events]\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "dead events leave the pending view",
        "what is acknowledged cannot be read any more",
        edit(
            "drain.py",
            "log.remove(partition, through, events, dead_arrivals, ",
            "log.remove(partition, through, events, (), ",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "dead events forgotten by the next drain",
        "what a drain set aside before it died cannot be read any more",
        edit("drain.py", "        if len(fresh) < len(events):\n", "        if False:\n"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "broken savepoint taken for a rolled back one",
        "a drain goes on in a transaction that is no more",
        edit("drain.py", "        if connection.needs_rollback:\n", "        if False:\n"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "restart in the middle of a script's loading",
        "a client is told 500 when Redis restarts between the loading of append and its call",
        edit("state.py", "    redis.exceptions.NoScriptError,\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "removal forgets newer texts",
        "an update that comes in the middle of a drain cannot be read",
        edit(
            "lua/remove.lua",
            "if pending and tonumber(string.match(pending, '^%d+')) == arrival and",
            "if pending and",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "counts by the batch",
        "a parent's count moves by its events, not by its rows",
        edit(
            "rows.py",
            "        if change.created is None:\n",
            "        inserted[parent_id] += change.created is None\n        if change.created is None:\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "older database taken",
        "a restored dump is written to, and what it lost is not missed",
        edit("behind.py", "    if log.stored_through(row.pk) <= row.drained_through:\n", "    if True:\n"),
        (BEHIND,),
    ),
    Mutant(
        "message of any application",
        "one application reads another's message",
        edit(
            "messages_app/selectors.py",
            "Message.objects.filter(chat__application__token=token, chat__number=chat_number, number=number)",
            "Message.objects.filter(chat__number=chat_number, number=number)",
        ),
        (ISOLATION, MODEL),
    ),
    Mutant(
        "chat of any application",
        "one application's messages are stored in another's chat",
        edit(
            "messages_app/persist.py",
            "Chat.objects.filter(application__token=token, number__in=of_token)",
            "Chat.objects.filter(number__in=of_token)",
        ),
        (ISOLATION, MODEL),
    ),
]
