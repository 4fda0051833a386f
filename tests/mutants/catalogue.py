"""The mutants: what each breaks, by which edit, and where it has to be seen."""

from __future__ import annotations

from dataclasses import dataclass

APPEND = "tests/writelog/test_append.py"
CONDITIONS = "tests/api/test_conditions.py"
DRAIN = "tests/writelog/test_drain.py"
GROUPS = "tests/writelog/test_group_drain.py"
ERRORS = "tests/api/test_errors.py"
FENCE = "tests/writelog/test_fence.py"
FOLLOWING = "tests/live/test_following.py"
REPLICAS = "tests/writelog/test_replicas.py"
LISTENING = "tests/server/test_listening.py"
HINTS = "tests/writelog/test_hints.py"
BEHIND = "tests/writelog/test_rollback_guard.py"
OWNERSHIP = "tests/writelog/test_ownership.py"
SERVERS = "tests/writelog/test_servers.py"
MOVE = "tests/commands/test_move_partitions.py"
SCRIPTS = "tests/writelog/test_scripts.py"
IDEMPOTENCY = "tests/api/test_idempotency.py"
ISOLATION = "tests/api/test_isolation.py"
CLIENT_JS = "tests/examples/test_chat_client_js.py"
CLIENT_PY = "tests/examples/test_chat_client_stream.py"
DEMO = "tests/website/test_in_a_browser.py"
KEPT = "tests/api/test_response_cache.py"
RECEIVING = "tests/server/test_receiving.py"
READS = "tests/api/test_read_your_writes.py"
UNAVAILABLE = "tests/api/test_unavailable.py"
SERVICE = "tests/writelog/test_redis_as_a_service.py"
OUTBOX = "tests/search/test_outbox.py -k fts5"
CORS = "tests/live/test_cors.py"
CREATE = "tests/api/test_create.py"
DEAD = "tests/backoffice/test_dead_events.py"
DRAIN_COMMAND = "tests/commands/test_drain.py"
EDITS = "tests/backoffice/test_edits.py"
HEADERS = "tests/api/test_security_headers.py"
LISTS = "tests/api/test_lists.py"
ADMIN_LISTS = "tests/backoffice/test_lists.py"
LOCKS = "tests/mysql/test_locks.py"
METRICS = "tests/monitoring/test_metrics.py"
OPERATIONS = "tests/backoffice/test_operations.py"
RATE_LIMIT = "tests/api/test_rate_limit.py"
RECOUNT = "tests/commands/test_recount.py"
REQUESTS = "tests/server/test_request_metrics.py"
SEARCH = "tests/search/test_route.py -k fts5"
SETTINGS = "tests/conf/test_settings.py"
SHARDS = "tests/search/test_shards.py"
TICKETS = "tests/live/test_tickets.py"
BACKLOG = "tests/live/test_backlog.py"
DELIVERY = "tests/live/test_delivery.py"
LIVE_SERVER = "tests/live/test_server.py"
STREAMS = "tests/live/test_streams.py"
CATCHING_UP = "tests/live/test_catching_up.py"
MODEL = "tests/model --hypothesis-profile=mutants"
PREFLIGHT = "tests/embedded/test_preflight.py"
PAGES = "tests/website/test_pages.py"
RUN = "tests/embedded/test_run.py"
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
    """In chatsystem/writelog, unless `file` names another."""
    package = "chatsystem/writelog/" if file.startswith("lua/") or "/" not in file else ""
    return ((package + file, old, new),)


#: Two middlewares, in their order and the other way round.
CORS_FIRST = '"chatsystem.api.cors.Cors",\n    "chatsystem.api.middleware.ConditionalGet",'
CORS_LAST = '"chatsystem.api.middleware.ConditionalGet",\n    "chatsystem.api.cors.Cors",'

MUTANTS = [
    Mutant(
        "no fence",
        "a restarted or restored Redis continues from the numbers that it remembers",
        edit("lua/append.lua", "if passed_by ~= incarnation then return {'fence'} end", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "fence that trusts every clock",
        "a Redis that is restored to an older state continues from its old numbers",
        edit(
            "lua/pass_fence.lua",
            "if passed_by == previous and clock and tonumber(clock) >= drained_through then",
            "if epoch then",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "numbers of every epoch",
        "after a loss, a number from before the loss is trusted",
        edit("lua/append.lua", "  if given_in ~= epoch then return {'seed'} end\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "missing counter means 0",
        "a flushed Redis numbers from 1 again",
        edit(
            "lua/append.lua",
            "  if not number then return {'seed'} end\n",
            "  number = number or '0 ' .. epoch\n",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "acknowledged without an append",
        "a client gets 201 although Redis never responded",
        edit(
            "append.py",
            "            if delay is None:\n                raise\n",
            "            if delay is None:\n"
            "                return ['ok', str(int(time.time() * 1_000_000)), write.name or '1', '0']\n",
        ),
        (UNAVAILABLE, KILLS),
    ),
    Mutant(
        "receipt before the limit",
        "a request that was refused counts as accepted when it is repeated",
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
        "a drain that dies in between loses what it has read",
        edit(
            "drain.py",
            '    Partition.objects.bulk_update(rows, ["drained_through"])\n',
            '    stream.remove(removals)\n    Partition.objects.bulk_update(rows, ["drained_through"])\n',
        ),
        (DRAIN, MODEL, KILLS),
    ),
    Mutant(
        "trimmed by count",
        "a drain that trims late deletes events that are not stored yet",
        edit(
            "lua/remove.lua",
            "redis.call('XTRIM', log_key, 'MINID', string.format('%.0f', through + 1))",
            "redis.call('XTRIM', log_key, 'MAXLEN', math.max(0, redis.call('XLEN', log_key) - #paths))",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "drained_through ignored",
        "events in the log are stored and counted a second time",
        edit(
            "drain.py",
            "[e for e in batches[row.pk].events if e.arrival > row.drained_through]",
            "batches[row.pk].events",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "drained_through after the commit",
        "a drain that dies in between leaves stored events that look unstored",
        edit(
            "drain.py",
            '    Partition.objects.bulk_update(rows, ["drained_through"])\n',
            "",
        )
        + edit(
            "drain.py",
            "    if taken:\n        stream.remove(",
            '    if taken:\n        Partition.objects.bulk_update(mine, ["drained_through"])\n        stream.remove(',
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "first writer wins",
        "an update in the log loses against what is stored",
        edit("bulk.py", "if row.last_request_time < moment:", "if row.last_request_time > moment:"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "last in the batch wins",
        "of two updates in one batch, the older one is stored",
        edit("events.py", "if earlier and earlier.arrival > arrival:", "if False and earlier:"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "lease instead of the row lock",
        "a killed drain blocks its partition until the lease ends, and a slow drain shares the partition after that",
        edit(
            "partitions.py",
            "        with transaction.atomic(durable=True):\n",
            "        from chatsystem.writelog.redis_client import client\n\n"
            '        leases = {p: client(p).lock(f"{{{p}}}:lease", timeout=10) for p in partitions}\n'
            "        partitions = [p for p in partitions if leases[p].acquire(blocking=not skip)]\n"
            "        with transaction.atomic(durable=True):\n",
        )
        + edit("partitions.py", "Partition.objects.select_for_update(skip_locked=skip)", "Partition.objects")
        + edit(
            "partitions.py",
            "            yield current\n",
            "            yield current\n        for p in partitions:\n            leases[p].release()\n",
        ),
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
        "append is retried under another request id",
        edit(
            "append.py",
            "                answer = _evaluate_append(connection, keys.partition, call_keys, arguments)\n",
            '                call_keys[-1] = keys.receipt(scope, f"{key.id} {time.monotonic_ns()}")\n'
            "                answer = _evaluate_append(connection, keys.partition, call_keys, arguments)\n",
        ),
        (APPEND, IDEMPOTENCY),
    ),
    Mutant(
        "no receipts",
        "a repeated request is a second write",
        edit(
            "lua/append.lua",
            "redis.call('SET', receipt_key, fingerprint .. ' ' .. whole(arrival) .. ' ' .. name, 'EX', lifetime)\n",
            "",
        ),
        (APPEND, IDEMPOTENCY),
    ),
    Mutant(
        "outbox after the commit",
        "a drain that dies in between leaves messages that no search finds",
        edit(
            "messages_app/persist.py",
            "    messages_stored.send(sender=Message, numbers=numbers, applications=dict(chats.values()))\n",
            "    from django.db import transaction\n\n"
            "    applications = dict(chats.values())\n"
            "    sent = {'sender': Message, 'numbers': numbers, 'applications': applications}\n"
            "    transaction.on_commit(lambda: messages_stored.send(**sent))\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "outbox entry deleted first",
        "an indexer that dies leaves messages that no search finds",
        edit(
            "search/outbox.py",
            "    get_backend().index(documents)\n    last_turn = _forget(entries, done)\n",
            "    last_turn = _forget(entries, done)\n    get_backend().index(documents)\n",
        ),
        (OUTBOX,),
    ),
    Mutant(
        "no fair queue at the index",
        "the backlog of one application is indexed before anybody else's message",
        edit("search/outbox.py", "_oldest_entries(last_turn) or _oldest_entries(-1)", "_oldest_entries(-1)"),
        (OUTBOX,),
    ),
    Mutant(
        "chunks of any size",
        "a neighbour's message waits for two thousand long texts",
        edit(
            "search/outbox.py",
            "            if taken >= CHUNK_BYTES:\n                break\n",
            "",
        ),
        (OUTBOX,),
    ),
    Mutant(
        "lease that is not renewed",
        "each sweep starts one more indexer on a slow chunk",
        edit(
            "search/outbox.py",
            "    while not ended.wait(LEASE_SECONDS / 3):\n        _hold_lease(LEASE_SECONDS)\n",
            "    ended.wait()\n",
        ),
        (OUTBOX,),
    ),
    Mutant(
        "indexing on the drains' queue",
        "no write is stored while all workers index",
        edit("chatsystem/settings.py", '    "search.*": {"queue": "background"},\n', ""),
        ("tests/conf/test_broker.py",),
    ),
    Mutant(
        "all marks count",
        "one letter with 16,000 combining marks delays each search by almost a second",
        edit("search/tokenizer.py", '    if len(text) > MARKS:\n        text = EXCESS.sub(r"\\1", text)\n', ""),
        ("tests/search/test_tokenizer.py",),
    ),
    Mutant(
        "pages of any length",
        "a thousand long hits keep a web process busy for a minute",
        edit("search/views.py", "if number and (taken > PAGE_BYTES or time.monotonic() > deadline):", "if False:"),
        ("tests/search/test_route.py -k fts5",),
    ),
    Mutant(
        "index without versions",
        "a late indexer replaces a new text with an old one",
        edit("search/backends/fts5/backend.py", "if held.get(document.id, -1) <= document.version]", "]"),
        ("tests/search/test_fts5.py",),
    ),
    Mutant(
        "scores of each shard by itself",
        "with several shards, a hit's rank depends on the shard that has it",
        edit("search/backends/elasticsearch/query.py", '            search_type="dfs_query_then_fetch",\n', ""),
        (SHARDS,),
    ),
    Mutant(
        "index under construction without replicas",
        "a reindex of hours starts again when a node dies",
        edit(
            "search/backends/elasticsearch/indexes.py",
            '{"refresh_interval": "-1"}',
            '{"refresh_interval": "-1", "auto_expand_replicas": "0-0"}',
        ),
        (SHARDS,),
    ),
    Mutant(
        "page of the shards that answer",
        "a page lacks the hits of a node that died",
        edit("search/backends/elasticsearch/query.py", "allow_partial_search_results=False,\n        )", ")"),
        ("tests/search/test_elasticsearch_cluster.py -k page",),
    ),
    Mutant(
        "database before the pending view",
        "a list misses what a drain stores between the two reads",
        (
            (
                "chatsystem/writelog/reads.py",
                "    pending = pending_children(token, parent, window)\n",
                "",
            ),
            (
                "chatsystem/writelog/reads.py",
                "    def run() -> Run[R]:\n        all_stored = stored()\n",
                "    all_stored = stored()\n"
                "    found = {} if all_stored is None else read(all_stored)\n"
                "    pending = pending_children(token, parent, window)\n"
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
                '    pending = reads.pending(token, f"{token}/{chat_number}/{number}")\n    row =',
                "    row =",
            ),
            (
                "messages_app/selectors.py",
                '    message = overlay(row, pending, "body"',
                '    pending = reads.pending(token, f"{token}/{chat_number}/{number}")\n'
                '    message = overlay(row, pending, "body"',
            ),
        ),
        (READS, MODEL),
    ),
    Mutant(
        "reads without the pending view",
        "an acknowledged write cannot be read until it is stored",
        edit("reads.py", "    if pending is None:\n        return row\n", "    if True:\n        return row\n"),
        (READS, MODEL),
    ),
    Mutant(
        "cached page of every version",
        "a cached page lacks writes that were acknowledged after it",
        edit("lua/page.lua", "clock .. ' ' .. fence", "fence"),
        (KEPT,),
    ),
    Mutant(
        "cached page of every Redis",
        "after a restore of Redis, a cached page lacks what the database has stored since",
        edit("lua/page.lua", " and string.match(fence, ' (%x+)$') == incarnation", ""),
        (KEPT,),
    ),
    Mutant(
        "cached page of a discarded message",
        "a cached page shows what somebody has discarded",
        edit("lua/withdraw.lua", "redis.call('SET', clock_key, clock)\n", ""),
        (KEPT,),
    ),
    Mutant(
        "fence passed without the row lock",
        "a drain stores events that a Redis which passes the fence meanwhile has lost",
        edit("ownership.py", "Partition.objects.select_for_update().filter(pk__in", "Partition.objects.filter(pk__in"),
        (FENCE,),
        "mariadb",
    ),
    Mutant(
        "drain of any Redis",
        "events of an old primary, or of another host's Redis, become rows under numbers of the owner's",
        edit("drain.py", "and batches[row.pk].passed_by == row.owner]", "]"),
        (OWNERSHIP,),
    ),
    Mutant(
        "superseded Redis that accepts",
        "a superseded Redis acknowledges writes that no worker stores",
        (
            *edit("lua/append.lua", "if superseded then return {'superseded'} end", ""),
            *edit("lua/append.lua", "if redis.call('GET', lease_key) ~= incarnation then return {'lease'} end", ""),
        ),
        (OWNERSHIP,),
    ),
    Mutant(
        "lease that nobody checks",
        "an old primary that no sweep reaches accepts for ever what nobody stores",
        edit("lua/append.lua", "if redis.call('GET', lease_key) ~= incarnation then return {'lease'} end", ""),
        (OWNERSHIP,),
    ),
    Mutant(
        "owner named after the fence",
        "a process that dies in between leaves a Redis that accepts and is not the owner",
        edit(
            "ownership.py",
            "        name_owner(mine, locked, previous)\n",
            "        name_owner(mine, locked, previous)\n"
            "        through = {row.pk: row.drained_through for row in passing}\n"
            "        redis_guards.pass_fences(through, mine, previous, begun)\n",
        ),
        (OWNERSHIP,),
    ),
    Mutant(
        "takeover without a wait",
        "a second host's Redis takes over from an owner that is alive",
        edit("ownership.py", "< TAKE_OVER_AFTER:", "< 0:"),
        (OWNERSHIP,),
    ),
    Mutant(
        "takeover from an owner that drains",
        "an owner whose sweeps are late is replaced while it stores",
        edit("ownership.py", " {sum(row.drained_through for row in theirs.values())}", ""),
        (OWNERSHIP,),
    ),
    Mutant(
        "former owner that trusts its old fence",
        "an owner that comes back assigns numbers that were assigned meanwhile",
        edit("ownership.py", 'if row.owner not in ("", mine) and guards[p].passed_by == mine]', "if False]"),
        (OWNERSHIP,),
    ),
    Mutant(
        "owner without replicas that confirms itself",
        "after a failover the old primary stops the new one from taking over",
        edit("ownership.py", "        expect_replicas(partition)\n", "        pass\n"),
        (OWNERSHIP,),
    ),
    Mutant(
        "takeover in another layout",
        "a server takes over partitions whose events wait on a server that REDIS_URL no longer names",
        edit("ownership.py", "if differs_from_layout(theirs.values()):", "if False:"),
        (MOVE,),
    ),
    Mutant(
        "Redis of make run taken for any other",
        "what waits in the Redis of `make run` is left behind once REDIS_URL is set",
        edit("servers.py", 'return "socket" if self._names[0].startswith("/") else "server"', 'return "server"'),
        (MOVE,),
    ),
    Mutant(
        "takeover with less than the owner's state",
        "a server that lacks stored events is trusted with its numbers",
        edit("ownership.py", "found.passed_by == row.owner and found.clock >= row.drained_through", "True"),
        (OWNERSHIP, FENCE),
    ),
    Mutant(
        "ownership check that needs all rows",
        "a migration that was cut off cannot be run again: its checks end it with a KeyError",
        edit("checks.py", "(LogUnavailable, DatabaseError, KeyError)", "(LogUnavailable, DatabaseError)"),
        (OWNERSHIP,),
    ),
    Mutant(
        "partition moved onto itself",
        "a partition whose server stays loses everything that waits",
        edit("moving.py", "if client(partition).get(key) != mark:", "if True:"),
        (MOVE,),
    ),
    Mutant(
        "sweep that ends at the first server that is down",
        "one server away, and nothing of the others that lost its hint is stored",
        edit("tasks.py", 'logger.warning("%s cannot be swept: %s", label, answer)', "raise answer"),
        (SERVERS,),
    ),
    Mutant(
        "sweep that needs the database",
        "while the database is down, the leases of a Redis that is idle end",
        edit("tasks.py", "        ownership.keep(partitions)\n        raise", "        raise"),
        (OWNERSHIP,),
    ),
    Mutant(
        "readiness that needs every server",
        "one server away, and the load balancer takes all hosts out",
        edit("chatsystem/monitoring/health.py", "if len(down) == len(servers):", "if down:"),
        (SERVERS,),
    ),
    Mutant(
        "servers that are asked one after another",
        "a silent server hides the halted partitions of all others, and delays their leases",
        edit("redis_client.py", "    if len(servers) == 1:\n", "    if True:\n"),
        (SERVERS,),
    ),
    Mutant(
        "late threads without a bound",
        "each look at readiness leaves threads behind that wait for a silent server",
        edit("chatsystem/probes.py", "len(late) < MOST_LATE", "True"),
        ("tests/test_probes.py",),
    ),
    Mutant(
        "topology looked up once",
        "after a failover or a moved slot, a process asks the former node for ever",
        edit("redis_client.py", "        servers().look_again()\n", "        pass\n"),
        (SERVERS,),
    ),
    Mutant(
        "script of another process's name",
        "without INFO, a thread loads the mark of one Redis into another, which then passes for the first",
        edit(
            "scripts.py",
            '_ask(connection, "SCRIPT", "LOAD", _script(verb, mark)[0])\n    return _call(connection, verb, mark,',
            '_ask(connection, "SCRIPT", "LOAD", _script(verb, _mark(connection))[0])\n'
            "    return _call(connection, verb, _mark(connection),",
        ),
        (SCRIPTS,),
    ),
    Mutant(
        "mark that outlives its process",
        "without INFO, a Redis that restarted with old data assigns numbers a second time",
        edit("scripts.py", "if not mark or not _knows(connection, key, mark):", "if not mark:"),
        (SCRIPTS,),
    ),
    Mutant(
        "mark that is never looked up again",
        "without INFO, our processes use different marks for a flushed Redis, and pass its fences by turns",
        edit("scripts.py", "        if _mark(connection):\n", "        if False:\n"),
        (SCRIPTS,),
    ),
    Mutant(
        "reads of a superseded Redis",
        "a Redis that is not the owner shows what nobody will store, and lacks what was acknowledged",
        edit("lua/page.lua", "if superseded then return {'superseded'} end\n", ""),
        (OWNERSHIP,),
    ),
    Mutant(
        "seed without a drain",
        "a number that waits in the log is assigned again",
        edit("seeding.py", "    drain([partition])\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "seed forgets what Redis remembers",
        "a number that an older database has lost is assigned again",
        edit("lua/seed.lua", "math.max(tonumber(last_number), tonumber(remembered))", "tonumber(last_number)"),
        (BEHIND,),
    ),
    Mutant(
        "seed forgets dead events",
        "the number of a dead event is assigned again",
        edit("seeding.py", "max(number, _last_dead(partition, parent))", "number"),
        (APPEND, MODEL),
    ),
    Mutant(
        "seed forgets discarded events",
        "the number of a discarded event is assigned again after a flush",
        edit("seeding.py", "(DeadEvent, DiscardedEvent)", "(DeadEvent,)"),
        (FENCE, APPEND, "tests/backoffice/test_dead_events.py"),
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
            "lua/pass_fence.lua",
            "math.max(drained_through, tonumber(clock or 0)) + 1",
            "tonumber(clock or 0) + 1",
        ),
        (APPEND, MODEL),
    ),
    Mutant(
        "sweep does nothing",
        "events with a lost hint are never stored",
        edit("tasks.py", "    if stream.waiting(partitions):\n", "    if False:\n"),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint never cleared",
        "for two seconds after a hint, writes trigger no drain",
        edit("drain.py", "stream.begin_drain(partitions)", "stream.waiting(partitions)"),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint cleared after the drain",
        "a write during a drain triggers no drain, and is left behind",
        edit("drain.py", "stream.begin_drain(partitions)", "stream.waiting(partitions)")
        + edit(
            "drain.py",
            "    return stored\n\n\ndef drain_present",
            "    stream.begin_drain(partitions)\n    return stored\n\n\ndef drain_present",
        ),
        (HINTS, MODEL),
    ),
    Mutant(
        "hint taken for a drain",
        "a write during a drain is left behind when the drain that it triggered found the partition locked",
        edit("drain.py", "if not log.hinted or p in cut}", "if p in cut}"),
        (HINTS, MODEL),
    ),
    Mutant(
        "log of a skipped partition trimmed",
        "a drain loses what another one holds and has not stored",
        edit(
            "drain.py",
            "    # Only after the commit:",
            "    removals += [stream.Removal(p, 1 << 60, batch.events) for p, batch in stream.read(counts).items()"
            " if batch.events and p not in {row.pk for row in rows}]\n    # Only after the commit:",
        ),
        (GROUPS, LOCKS),
        database="mariadb",
    ),
    Mutant(
        "one drained_through not moved",
        "a drain of several partitions that dies stores the events of one a second time",
        edit("drain.py", "bulk_update(rows, ", "bulk_update(rows[1:] or rows, "),
        (GROUPS, MODEL),
    ),
    Mutant(
        "neighbours of a refused partition lost",
        "a group that the database refuses is stored without the partitions that hold no bad event",
        edit(
            "drain.py",
            "    return {partition: refused for partition, events in fresh.items() if (refused := store(events))}\n",
            "    halves = store(together)\n    return {next(iter(fresh)): halves} if halves else {}\n",
        ),
        (GROUPS, MODEL),
    ),
    Mutant(
        "one partition that is behind stops its group",
        "no write is stored while one partition is halted",
        edit(
            "partitions.py",
            "            if not current and (rows or not skip):",
            "            if len(current) < len(rows):",
        ),
        (GROUPS,),
    ),
    Mutant(
        "long log first",
        "short logs wait behind the log of a flood",
        edit("drain.py", "key=lambda item: item[1].events):", "key=lambda item: -item[1].events):"),
        (GROUPS,),
    ),
    Mutant(
        "transaction of any size",
        "a transaction of long texts holds its partitions for as long as they take",
        edit("drain.py", "            if room < 0 and (count or fitting):\n                break\n", ""),
        (GROUPS,),
    ),
    Mutant(
        "drains wait for SQLite",
        "each worker waits in BEGIN for the drain that writes, for up to 30 s",
        edit("partitions.py", 'if connection.vendor != "sqlite" or not skip:', "if True:"),
        (GROUPS,),
    ),
    Mutant(
        "hint for each partition",
        "each of many applications costs a Celery message",
        edit("append.py", "                self.due[first] = now + INTERVAL\n", ""),
        (GROUPS,),
    ),
    Mutant(
        "old primary that is never left",
        "after a failover that the old primary has not heard of, nothing is stored until the network is back",
        edit("servers.py", "if isinstance(client.connection_pool, SentinelConnectionPool):", "if False:"),
        (SERVERS,),
    ),
    Mutant(
        "old primary left before it is marked",
        "web processes that only read show an older state, since nobody tells them",
        edit("tasks.py", "    if len(redis_guards.superseded(partitions)) == len(partitions):\n", "    if True:\n"),
        (SERVERS,),
    ),
    Mutant(
        "no bisection",
        "a bad event takes its whole batch with it",
        edit(
            "drain.py",
            "    half = len(events) // 2\n    return store(events[:half]) + store(events[half:])\n",
            "    return [(event, error) for event in events]\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "dead events leave the pending view",
        "an acknowledged write cannot be read any more",
        edit(
            "drain.py",
            "stream.Removal(row.pk, row.drained_through, batch.events, arrivals, lease)",
            "stream.Removal(row.pk, row.drained_through, batch.events, (), lease)",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "dead events forgotten by the next drain",
        "what a drain set aside before it died cannot be read any more",
        edit("drain.py", "        if len(fresh[row.pk]) < len(batch.events):\n", "        if False:\n"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "broken savepoint taken for a rolled back one",
        "a drain continues in a transaction that no longer exists",
        edit("drain.py", "        if connection.needs_rollback:\n", "        if False:\n"),
        (DRAIN, MODEL),
    ),
    Mutant(
        "restart during the loading of a script",
        "a client gets 500 when Redis restarts between the loading of append and its call",
        edit("redis_client.py", "    redis.exceptions.NoScriptError,\n", ""),
        (APPEND, MODEL),
    ),
    Mutant(
        "missing permission taken for a bug",
        "a client gets 500 when the user of the state Redis may run only some commands",
        edit("redis_client.py", "if missing := NotPermitted.from_redis(error):", "if missing := None:"),
        (SERVICE,),
    ),
    Mutant(
        "readiness that writes less than a write",
        "readiness is ok while every write is refused because of a missing permission",
        edit(
            "stats.py",
            '    run(partitions[0], "probe", [Keys(partitions[0]).probe], [])\n',
            "    with available():\n        client(partitions[0]).set(Keys(partitions[0]).probe, 1)\n",
        ),
        (SERVICE,),
    ),
    Mutant(
        "database that responds taken for one that stores",
        "readiness reports ok for a server that has lost its quorum",
        edit(
            "chatsystem/monitoring/health.py",
            'partitions.update(drained_through=F("drained_through"))',
            'connection.cursor().execute("SELECT 1")',
        ),
        ("tests/deploy/test_galera.py",),
    ),
    Mutant(
        "Galera without wsrep_sync_wait",
        "a node that lags hides an acknowledged message, and halts its partition",
        edit("chatsystem/conf/galera.py", "SYNC_WAIT = 7", "SYNC_WAIT = 0"),
        ("tests/deploy/test_galera.py",),
    ),
    Mutant(
        "mark of the database read after its row",
        "a drain on another node of a Galera cluster halts the partition",
        edit(
            "partitions.py",
            "rollback_guard.is_behind(row, stored_through[row.pk])",
            "rollback_guard.is_behind(row, rollback_guard.stored_through(row.pk))",
        ),
        ("tests/deploy/test_galera.py",),
    ),
    Mutant(
        "concurrent migrations",
        "when two hosts start at once on a new database, one finds tables that the other has just created, and fails",
        edit("chatsystem/management/commands/migrate.py", 'if connection.vendor != "mysql":', "if True:"),
        ("tests/mysql/test_migrate.py",),
        database="mariadb",
    ),
    Mutant(
        "hosts remembered for ever",
        "readiness stays degraded after SECRET_KEY was changed on purpose",
        edit("chatsystem/monitoring/hosts.py", "filter(seen_at__gt=Now() - ALIVE).exclude(", "exclude("),
        ("tests/mysql/test_hosts.py",),
        database="mariadb",
    ),
    Mutant(
        "hosts known by readiness only",
        "a host whose readiness nobody polls can differ unnoticed",
        edit("chatsystem/monitoring/hosts.py", "@task_prerun.connect\n", ""),
        ("tests/mysql/test_hosts.py",),
        database="mariadb",
    ),
    Mutant(
        "refused wait taken for a refused write",
        "a client is told that nothing has happened although the write exists and only WAIT was refused",
        edit("append.py", "        raise redis.ConnectionError(str(error)) from error\n", "        raise\n"),
        (SERVICE,),
    ),
    Mutant(
        "removal forgets newer texts",
        "an update that arrives during a drain cannot be read",
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
            "bulk.py",
            "        if change.created is None:\n",
            "        inserted[parent_id] += change.created is None\n        if change.created is None:\n",
        ),
        (DRAIN, MODEL),
    ),
    Mutant(
        "older database accepted",
        "a restored dump is written to, and nobody notices what it lost",
        edit(
            "rollback_guard.py",
            "    if stored_through <= row.drained_through:\n        return False\n",
            "    return False\n",
        ),
        (BEHIND,),
    ),
    Mutant(
        "message of any application",
        "one application reads another's message",
        edit(
            "messages_app/selectors.py",
            "WHERE application.token = %s AND chat.number",
            "WHERE (application.token = %s OR 1 = 1) AND chat.number",
        ),
        (ISOLATION, MODEL),
    ),
    Mutant(
        "chat of any application",
        "one application's messages are stored in another's chat",
        edit(
            "bulk.py",
            'Q(**{foreign_key: parent_id, "number__in": numbers[parent_id]})',
            "Q(number__in=numbers[parent_id])",
        ),
        (ISOLATION, MODEL),
    ),
    # What the contract, the settings, the commands and the admin promise in more than one variant.
    Mutant(
        "requests under the first status",
        "500 and 503 are invisible to the alerts",
        edit(
            "chatsystem/monitoring/request_metrics.py",
            "str(int(status))",
            '"0"',
        ),
        (REQUESTS,),
    ),
    Mutant(
        "requests under the first method",
        "a PATCH is counted as a GET",
        edit(
            "chatsystem/monitoring/request_metrics.py",
            "method if method in METHODS else OTHER_METHOD",
            '"GET"',
        ),
        (REQUESTS,),
    ),
    Mutant(
        "every drain counted as fast",
        "the alert on slow drains never fires",
        edit("stats.py", "SECONDS[bisect_left(SECONDS, seconds)]", "SECONDS[0]"),
        (METRICS,),
    ),
    Mutant(
        "one drift per repair",
        "of several wrong counts, one is counted",
        edit("counts.py", "stats.count_drifts(partition, len(drifts))", "stats.count_drifts(partition, 1)"),
        (METRICS,),
    ),
    Mutant(
        "one halted partition",
        "of several halted partitions, one is counted",
        edit(
            "chatsystem/monitoring/metrics.py",
            "halted = len(of_every(rollback_guard.halted))",
            "halted = int(bool(of_every(rollback_guard.halted)))",
        ),
        (METRICS,),
    ),
    Mutant(
        "http behind TLS",
        "links and Location lead a client to a redirect",
        edit("chatsystem/api/query_params.py", "{request.scheme}://", "http://"),
        (HEADERS,),
    ),
    Mutant(
        "a slash before the number",
        "the Location of a create at a path with a trailing slash has two slashes",
        edit("chatsystem/api/viewsets.py", ".removesuffix('/')", ""),
        (CREATE,),
    ),
    Mutant(
        "links without the limit",
        "a list with a limit of 3 continues with pages of 50",
        edit(
            "chatsystem/api/pagination.py",
            "**{AFTER: None, BEFORE: None, side",
            '**{"limit": None, AFTER: None, BEFORE: None, side',
        ),
        (LISTS,),
    ),
    Mutant(
        "search links without the other parameters",
        "a client's own parameter is lost on the second page",
        edit(
            "chatsystem/api/pagination.py",
            "link(self.request, cursor=self.cursors",
            "link(self.request, mine=None, cursor=self.cursors",
        ),
        (SEARCH,),
    ),
    Mutant(
        "cursor for every chat",
        "a page of the whole application's search can be continued in one chat",
        edit("search/views.py", "scope.application_token, scope.chat_number]", "scope.application_token]"),
        (SEARCH,),
    ),
    Mutant(
        "cursor for every phrase",
        "a page of one search can be continued in another",
        edit("search/views.py", "parsed.prefixes, parsed.phrases, scope", "parsed.prefixes, scope"),
        (SEARCH,),
    ),
    Mutant(
        "cursor for every engine",
        "after a change of engines, a page continues at a position of the old engine",
        edit("search/views.py", "meaning = [settings.SEARCH_BACKEND, parsed", "meaning = [parsed"),
        (SEARCH,),
    ),
    Mutant(
        "pages of 20 hits",
        "search has another default than the lists",
        edit("search/views.py", "parsed, scope, page.limit,", "parsed, scope, min(page.limit, 20),"),
        (SEARCH,),
    ),
    Mutant(
        "key kept for an hour",
        "a request that is repeated on the same day is a second write",
        edit("append.py", "KEY_LIFETIME = 24 * 60 * 60", "KEY_LIFETIME = 60 * 60"),
        (IDEMPOTENCY,),
    ),
    Mutant(
        "request without a key kept for a day",
        "each receipt fills Redis for a day instead of a minute",
        edit("append.py", "REQUEST_LIFETIME = 60\n", "REQUEST_LIFETIME = 86_400\n"),
        (IDEMPOTENCY,),
    ),
    Mutant(
        "proxy's name taken for a client's key",
        "a request whose proxy name equals a client's key gets that request's response",
        edit("append.py", 'cls(f"proxy {key}")', 'cls(f"key {key}")'),
        (IDEMPOTENCY,),
    ),
    Mutant(
        "pages cached for ever",
        "the memory of the cache is not bounded by time",
        edit("chatsystem/api/response_cache.py", "LIFETIME = 30", "LIFETIME = None"),
        (KEPT,),
    ),
    Mutant(
        "bucket for an invalid token",
        "made-up tokens fill the cache with buckets",
        edit("chatsystem/api/rate_limit.py", "if TOKEN.fullmatch(token) else None", "if token else None"),
        (RATE_LIMIT,),
    ),
    Mutant(
        "wait for the whole burst",
        "a client is told to wait longer than necessary",
        edit(
            "chatsystem/api/rate_limit.py", "rate_limited(_whole(bucket.wait))", "rate_limited(_whole(bucket.full_in))"
        ),
        (RATE_LIMIT,),
    ),
    Mutant(
        "unresponsive cache tried by each request",
        "while the cache is unresponsive, each request waits for it",
        edit("chatsystem/api/rate_limit.py", "self.retry_at = time.monotonic() + COOLDOWN", "self.retry_at = 0.0"),
        (RATE_LIMIT,),
    ),
    Mutant(
        "repair without the partition lock",
        "a count misses what a drain stores between counting and writing",
        edit("counts.py", "        with locked(partition):\n", "        if True:\n"),
        (LOCKS,),
        database="mariadb",
    ),
    Mutant(
        "repair under another partition's lock",
        "the same",
        edit("counts.py", "by_partition[partition_of(token)].append(parent_id)", "by_partition[0].append(parent_id)"),
        (LOCKS,),
        database="mariadb",
    ),
    Mutant(
        "seed without the row lock",
        "a drain stores a higher number while a lower one is seeded",
        edit(
            "seeding.py",
            "    drain([partition])\n    with locked(partition):\n",
            "    drain([partition])\n    if True:\n",
        ),
        (LOCKS,),
        database="mariadb",
    ),
    Mutant(
        "replay without the row lock",
        "a drain stores beside a replay",
        edit(
            "dead_events.py",
            "    with locked(dead.partition_id):\n        dead = DeadEvent.objects.get(pk=dead.pk)\n        event",
            "    from django.db import transaction\n\n"
            "    with transaction.atomic():\n        dead = DeadEvent.objects.get(pk=dead.pk)\n        event",
        ),
        (LOCKS,),
        database="mariadb",
    ),
    Mutant(
        "copy while others drain",
        "the copy and the old database diverge",
        edit(
            "chatsystem/backoffice/database_copy.py",
            "            list(Partition.objects.using(SOURCE).select_for_update())\n",
            "",
        ),
        ("tests/commands/test_copy_to.py",),
        database="mariadb",
    ),
    Mutant(
        "reconcile of the first slice",
        "of many counts that drains have moved, only a hundred are checked",
        edit("counts.py", "        while parents := list(due", "        if parents := list(due"),
        (RECOUNT,),
    ),
    Mutant(
        "drain without an end",
        "the command continues for as long as others write",
        edit("drain.py", "(batch := drain([partition], seconds=0))", "(batch := drain([partition]))"),
        (DRAIN_COMMAND,),
    ),
    Mutant(
        "drain of one batch",
        "the command leaves events behind that were there at its start",
        edit("drain.py", "        while length > 0 and (batch", "        if length > 0 and (batch"),
        (DRAIN_COMMAND,),
    ),
    Mutant(
        "parent in the database before the pending view",
        "a parent that is stored between the two reads gets 404",
        edit(
            "append.py",
            "        pending = reads.pending(token, parent)\n        if last_number() is None and pending is None:",
            "        last = last_number()\n        if reads.pending(token, parent) is None and last is None:",
        ),
        (APPEND,),
    ),
    Mutant(
        "seeding lock that is never released",
        "after a seed, the next one waits for seconds",
        edit("redis_client.py", "                lock.release()\n", "                pass\n"),
        (APPEND,),
    ),
    Mutant(
        "dead messages counted as chats",
        "a chat gets the number of a dead message",
        edit(
            "seeding.py",
            'max((int(name) for name in names if "/" not in name), default=0)',
            'max((int(name.rpartition("/")[2]) for name in names), default=0)',
        ),
        (APPEND,),
    ),
    Mutant(
        "reported as stored too early",
        "the admin reports a waiting change as stored",
        edit("chatsystem/backoffice/entity_admin.py", "drained_through__gte=arrival", "drained_through__gte=0"),
        (EDITS,),
    ),
    Mutant(
        "refused and reported as stored",
        "the admin reports a change as stored that the database refused",
        edit(
            "chatsystem/backoffice/entity_admin.py",
            "        if DeadEvent.objects.filter(partition=partition, arrival=arrival).exists():",
            "        if False:",
        ),
        (EDITS,),
    ),
    Mutant(
        "another event's death reported",
        "the admin reports a stored change as refused",
        edit(
            "chatsystem/backoffice/entity_admin.py",
            "DeadEvent.objects.filter(partition=partition, arrival=arrival)",
            "DeadEvent.objects.filter(partition=partition)",
        ),
        (EDITS,),
    ),
    Mutant(
        "edit that does not wait",
        "beside a drain, the admin leaves each change to the workers",
        edit(
            "chatsystem/backoffice/entity_admin.py",
            "drain([partition], PATIENCE)",
            "drain([partition], PATIENCE, skip=True)",
        ),
        (EDITS,),
        database="mariadb",
    ),
    Mutant(
        "form from before the drain",
        "the admin shows a text that is older than what is stored",
        edit(
            "chatsystem/backoffice/entity_admin.py",
            "        row = super().get_object(request, object_id, from_field)\n        return overlay",
            "        return overlay",
        ),
        (EDITS,),
    ),
    Mutant(
        "oldest of what is left",
        "after a discard, reads show a text that was changed since",
        edit(
            "dead_events.py",
            "Pending(left[-1].arrival, created, left[-1].text)",
            "Pending(left[0].arrival, created, left[0].text)",
        ),
        (DEAD,),
    ),
    Mutant(
        "chat discarded before its messages",
        "an interrupted discard leaves messages without their chat",
        edit("chatsystem/backoffice/admin.py", 'order_by("partition", "-arrival")', 'order_by("partition", "arrival")'),
        (DEAD,),
    ),
    Mutant(
        "an hour to the second",
        "the filter by age hides rows beside one that was stored late",
        edit("chatsystem/backoffice/big_table.py", "MARGIN = timedelta(minutes=1)", "MARGIN = timedelta(0)"),
        (ADMIN_LISTS,),
    ),
    Mutant(
        "job that was never sent",
        "a job that the broker did not take cannot be started again for a minute",
        edit("chatsystem/backoffice/tasks.py", "        job_runs.give_up(job)\n", ""),
        (OPERATIONS,),
    ),
    Mutant(
        "one partition accepted",
        "of several partitions that are behind, the others stay halted",
        edit(
            "chatsystem/writelog/management/commands/accept_database.py",
            "                self._accept(partition)\n",
            "                self._accept(partition)\n                break\n",
        ),
        (BEHIND,),
    ),
    Mutant(
        "commit that is not synced",
        "after a power cut, SQLite lacks what the log has removed",
        edit("chatsystem/conf/database.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),
        (SETTINGS,),
    ),
    Mutant(
        "setting of another name",
        "a variable is read and has no effect",
        edit(
            "chatsystem/settings.py",
            'REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", 3.0, validate=validate.Range(min=0.1, max=3600))',
            'REDIS_TIMEOUT = min(env.float("REDIS_TIMEOUT", 3.0, validate=validate.Range(min=0.1)), 1.0)',
        ),
        (SETTINGS,),
    ),
    Mutant(
        "no periodic reconcile",
        "a wrong count stays wrong",
        edit(
            "chatsystem/settings.py",
            '"reconcile-counts": {"task": "writelog.reconcile", "schedule": every(30)',
            '"reconcile-counts": {"task": "writelog.reconcile", "schedule": every(3_000)',
        ),
        (SETTINGS,),
    ),
    Mutant(
        "drain that never yields",
        "one partition's backlog keeps a worker from all others",
        edit("tasks.py", "drain(partitions, DRAIN_TURN, skip=True)", "drain(partitions, skip=True)"),
        (HINTS,),
    ),
    Mutant(
        "lost hint believed for a minute",
        "the events that it was for wait as long",
        edit("lua/append.lua", "'PX', 2000", "'PX', 60000"),
        (HINTS,),
    ),
    Mutant(
        "workers that never die",
        "workers that are gone are reported as present",
        edit("stats.py", '.heartbeat, "1", ex=15)', '.heartbeat, "1")'),
        (HINTS,),
    ),
    Mutant(
        "indexer's lease of an hour",
        "after a kill of the indexer, nothing new is found for an hour",
        edit("search/outbox.py", "LEASE_SECONDS = 6\n", "LEASE_SECONDS = 3600\n"),
        (OUTBOX,),
    ),
    Mutant(
        "full log reported as an outage",
        "an application that floods is not told so",
        edit("chatsystem/api/exception_handler.py", "        if isinstance(exc, LogFull):\n", "        if False:\n"),
        (UNAVAILABLE,),
    ),
    Mutant(
        "time without its fraction",
        "one time in a million has another format",
        edit("chatsystem/api/fields.py", "value.isoformat('T', 'microseconds')", "value.isoformat('T')"),
        (CREATE,),
    ),
    Mutant(
        "one difference taken for none",
        "an index that lacks one message is reported as equal",
        edit("search/management/commands/reindex.py", "        if count:\n", "        if count > 1:\n"),
        ("tests/search/test_reindex.py -k fts5",),
    ),
    Mutant(
        "usage without events in the log",
        "a log that is never empty remembers every application that ever wrote to it",
        edit("lua/remove.lua", "if left_events > 0 then", "if left_events >= 0 then"),
        ("tests/writelog/test_limits.py",),
    ),
    Mutant(
        "extra documents counted in the last stride",
        "a reindex reports fewer documents than it has removed",
        edit("search/reindex.py", "removed += _remove", "removed = _remove"),
        ("tests/search/test_reindex.py -k fts5",),
    ),
    Mutant(
        "empty variable taken for a value",
        "`DEBUG=` in an .env stops the product from starting",
        edit(
            "chatsystem/conf/environment.py",
            "        if not given(name):\n            return default\n        if method",
            "        if name not in os.environ:\n            return default\n        if method",
        ),
        (SETTINGS,),
    ),
    Mutant(
        "password cut at its semicolons",
        "workers never reach a Redis whose password contains a semicolon, and their log contains part of it",
        edit("chatsystem/conf/addresses.py", '.replace(";", "%3B")', ""),
        (SETTINGS, "tests/writelog/test_redis_as_a_service.py"),
    ),
    Mutant(
        "secret in a sentence",
        "the driver's message about an unavailable service contains the password",
        edit(
            "chatsystem/monitoring/reachable.py", '            why = why.replace(secret, "…")\n', "            pass\n"
        ),
        ("tests/monitoring/test_reachable.py",),
    ),
    Mutant(
        "services probed too late",
        "an unavailable Redis is reported after a minute, and as something else",
        edit("chatsystem/embedded/prepare.py", "        if name in away:\n", "        if False:\n"),
        (f"{PREFLIGHT} -k nothing_can_start",),
    ),
    Mutant(
        "port of closed connections",
        'a restart within a minute of the last run fails with "port in use"',
        edit(
            "chatsystem/embedded/preflight.py",
            "            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n",
            "",
        ),
        (PREFLIGHT,),
    ),
    Mutant(
        "variables of other tools",
        "what another project has exported decides how many workers there are, or breaks them",
        edit("chatsystem/embedded/options.py", "**without_foreign(os.environ)", "**os.environ"),
        (SETTINGS,),
    ),
    Mutant(
        "SIGHUP that nohup had ignored",
        "`nohup make run &` ends with its terminal",
        edit(
            "chatsystem/embedded/runner.py",
            "        if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:\n",
            "        if True:\n",
        ),
        (f"{RUN} -k lost_its_terminal",),
    ),
    Mutant(
        "keep-alive with unread bytes",
        "a connection that was announced as keep-alive closes, or gets out of step",
        edit("chatsystem/server/worker.py", "not self.req.exchange.is_received(self.req)", "False"),
        (RECEIVING,),
    ),
    Mutant(
        "lease that ends during a step",
        "after a restart of Redis, a slow database makes the server refuse writes",
        edit("append.py", "ROUNDS = 3", "ROUNDS = 2"),
        (f"{APPEND} -k costs_no_write",),
    ),
    Mutant(
        "claim that gives up",
        "the first write after a start is refused when a sweep claims the partitions at the same time",
        edit("ownership.py", "except Overtaken:", "except ZeroDivisionError:"),
        (f"{OWNERSHIP} -k same_time",),
    ),
    Mutant(
        "lease shortened by a slow drain",
        "a drain that took long ends the lease, and web processes ask the database again",
        edit("lua/remove.lua", "redis.call('PTTL', lease_key) < left", "true"),
        (f"{OWNERSHIP} -k took_long",),
    ),
    Mutant(
        "port open before the application is loaded",
        "requests wait for a host that has just been started, although another one could answer",
        edit("chatsystem/server/gunicorn.py", "lambda sock: True", "BaseSocket._is_listening"),
        (f"{LISTENING} -k until",),
    ),
    Mutant(
        "port open during the last requests",
        "requests wait for a host that ends, and are reset with its last request",
        edit("chatsystem/server/worker.py", "if not enabled and not self.alive:", "if False:"),
        (f"{LISTENING} -k while",),
    ),
    Mutant(
        "thread for an incomplete request",
        "a client that stops within its body holds a thread, and a few of them hold all",
        edit(
            "chatsystem/server/receiving.py",
            "elif self.state is State.ARRIVING and len(self.data) >= self._end:",
            "elif self.state is State.ARRIVING:",
        ),
        (RECEIVING,),
    ),
    Mutant(
        "thread for a slow reader",
        "a client that does not read its response holds a thread",
        edit(
            "chatsystem/server/receiving.py",
            "self.client.send(self.data, socket.MSG_DONTWAIT)",
            "self.client.send(self.data)",
        ),
        (f"{RECEIVING} -k nobody_takes_in",),
    ),
    Mutant(
        "request without a timeout",
        "clients that stop within their requests hold their connections for ever",
        edit("chatsystem/server/worker.py", "self.receiving.pop_late(RECEIVE_SECONDS)", "self.receiving.pop_late(1e9)"),
        (f"{RECEIVING} -k never_end",),
    ),
    Mutant(
        "close beside another word",
        "a client that sent `Connection: TE, close` waits for the end of a connection that is kept open",
        edit(
            "chatsystem/server/worker.py",
            'if any("close" in re.split(r"[ \\t,]+", value.lower())',
            'if any(value == "close"',
        ),
        (f"{RECEIVING} -k stands_beside_it",),
    ),
    Mutant(
        "stream of the Python client from its beginning",
        "after each reconnect a program handles everything again",
        edit("examples/chat_client.py", "position = frame.id or position\n", "pass\n"),
        (CLIENT_PY,),
    ),
    Mutant(
        "half a frame taken by the Python client",
        "the position moves past an event of which only the id arrived",
        edit(
            "examples/chat_client.py",
            "setattr(frame, name, value)",
            "setattr(frame, name, value)\n                    yield frame",
        ),
        (CLIENT_PY,),
    ),
    Mutant(
        "reset unseen by the Python client",
        "a program goes on with what was taken back, or without what is missing",
        edit("examples/chat_client.py", "raise StreamReset(position)", "continue"),
        (f"{CLIENT_PY} -k reset",),
    ),
    Mutant(
        "Python client without a beginning",
        "what is written before the first event of a broken connection is missing",
        edit("examples/chat_client.py", "position or self.position(token, chat)", 'position or ""'),
        (CLIENT_PY,),
    ),
    Mutant(
        "stream of the JavaScript client from its beginning",
        "a page that helps its browser to reconnect shows old versions again",
        edit("examples/chat-client.js", 'this.#position = kind === "reset" ? data.position : position;', ""),
        (f"{CLIENT_JS} -k gave_up",),
    ),
    Mutant(
        "JavaScript client that leaves it to the browser",
        "a page is silent for ever after one 502",
        edit("examples/chat-client.js", "source.readyState === 2 ? done() :", "source.readyState === 3 ? done() :"),
        (f"{CLIENT_JS} -k gave_up",),
    ),
    Mutant(
        "JavaScript client without polling",
        "a page behind a proxy that holds streams back shows nothing",
        edit("examples/chat-client.js", "this.#pollUntil = Date.now() + POLL_FOR;", ""),
        (f"{CLIENT_JS} -k do_not_get_through",),
    ),
    Mutant(
        "ticket used until it is refused",
        "a page has no stream while its ticket is renewed",
        edit("examples/chat-client.js", "- Date.now() - MARGIN ||", "- Date.now() + MARGIN ||"),
        (f"{CLIENT_JS} -k renewed",),
    ),
    Mutant(
        "message of the demo as HTML",
        "who writes a message runs a script where the others read it",
        edit(
            "chatsystem/website/static/website/pane.js",
            'row.querySelector(".body").textContent = message.body;',
            'row.querySelector(".body").innerHTML = message.body;',
        ),
        (f"{DEMO} -k other_sees",),
    ),
    Mutant(
        "list over stream in the demo",
        "an edit disappears when the list of an earlier moment arrives",
        edit(
            "chatsystem/website/static/website/pane.js",
            "known && known.last_request_time >= message.last_request_time ? known : message",
            "message",
        ),
        (f"{DEMO} -k older_than",),
    ),
    Mutant(
        "demo from its beginning",
        "who comes back online sees nothing of what was written meanwhile",
        edit(
            "chatsystem/website/static/website/pane.js",
            "this.#position = this.#stream.position;",
            'this.#position = "";',
        ),
        (f"{DEMO} -k offline",),
    ),
    Mutant(
        "demo everywhere",
        "a server on the internet serves a page that nobody has switched on",
        edit("chatsystem/website/views.py", "if not settings.DEMO:", "if False:"),
        (PAGES,),
    ),
    Mutant(
        "JSON's policy on a page's 304",
        "a page is blank from the second visit on",
        edit(
            "chatsystem/api/middleware.py",
            '        conditional.headers["Content-Security-Policy"] = response.headers["Content-Security-Policy"]\n',
            "",
        ),
        (CONDITIONS,),
    ),
    Mutant(
        "conditional write executed",
        "a client that wrote under a condition has overwritten what it did not know",
        edit("chatsystem/api/viewsets.py", "if self.action in WRITES and (", "if False and ("),
        (CONDITIONS,),
    ),
    Mutant(
        "parameters of Accept in the response",
        "a response has another layout, or names the wrong charset",
        edit(
            "chatsystem/api/negotiation.py",
            "            renderer, _ = super().select_renderer(request, renderers, format_suffix)\n",
            "            return super().select_renderer(request, renderers, format_suffix)\n",
        ),
        (f"{ERRORS} -k what_accept_says",),
    ),
    Mutant(
        "no gap check",
        "a stream goes on although a drain left no feed row",
        edit("feed.py", "            if begin > at or (begin < at and at != after):\n                raise Gap\n", ""),
        (FOLLOWING,),
    ),
    Mutant(
        "position without a term",
        "a stream goes on although Redis has lost what it had shown",
        edit("live/replay.py", "    if position.term == term:\n", "    if term:\n"),
        (FOLLOWING,),
    ),
    Mutant(
        "former terms count for ever",
        "a stream of a former term goes on although its events were lost",
        edit(
            "terms.py",
            "        ended[row.pk, found.term if kept else newest] = through\n",
            "        ended[row.pk, found.term if kept else newest] = 2**62\n",
        ),
        (FOLLOWING,),
    ),
    Mutant(
        "unused term",
        "a term that another process has begun at the same time resets everybody",
        edit(
            "terms.py",
            "ended[row.pk, found.term if kept else newest] = through",
            "ended[row.pk, newest] = through",
        ),
        (FOLLOWING,),
    ),
    Mutant(
        "log read before the mark",
        "an older Redis shows old versions of what is stored",
        edit("lua/tail.lua", "local at = math.max(after, tonumber(stored))", "local at = after"),
        (FOLLOWING,),
    ),
    Mutant(
        "mark of an older Redis",
        "a Redis that came back with older state hides what is stored",
        edit(
            "lua/pass_fence.lua",
            "if drained_through > tonumber(redis.call('GET', stored_key) or 0) then "
            "redis.call('SET', stored_key, ARGV[1]) end\n",
            "",
        ),
        (FOLLOWING,),
    ),
    Mutant(
        "dead events left out of a replay",
        "a stream does not show an acknowledged write that every read shows",
        edit("live/replay.py", "    dead = _dead(partition, changed, after, through)\n", "    dead = {}\n"),
        (FOLLOWING,),
    ),
    Mutant(
        "discarded in silence",
        "a stream that has shown a discarded event is not reset when it comes back",
        edit(
            "live/replay.py",
            '    if any(owns(path.partition("/")[0]) for path in gone.values_list("path", flat=True)):\n'
            "        raise feed.Gap\n",
            "",
        ),
        (FOLLOWING,),
    ),
    Mutant(
        "discarded without a note",
        "an open stream that has shown a discarded event is not reset",
        edit("lua/withdraw.lua", "redis.call('HSET', withdrawn_key, string.match(path, '^[^/]+'), clock)\n", ""),
        (FOLLOWING,),
    ),
    Mutant(
        "note that nobody reads",
        "a client that returns before the next drain gets no reset for a discarded event that it has seen",
        edit("live/catchup.py", " or _withdrawn(subject, position, tail):", ":"),
        (f"{FOLLOWING} -k discarded",),
    ),
    Mutant(
        "replay and live overlapping",
        "a stream shows an event twice",
        edit("live/replay.py", "if after < event.arrival <= through", "if after <= event.arrival <= through"),
        (FOLLOWING,),
    ),
    Mutant(
        "events of a superseded Redis",
        "a stream shows what the database never takes",
        edit("lua/tail.lua", "if superseded then return {'superseded'} end\n", ""),
        (FOLLOWING,),
    ),
    Mutant(
        "shown before it is replicated",
        "a failover takes back what a stream has shown",
        edit("tail.py", "            check_replicas(", "            _ = ("),
        (REPLICAS,),
    ),
    Mutant(
        "304 without a position",
        "a client that revalidates a list cannot stream from there",
        edit(
            "chatsystem/api/middleware.py",
            "            conditional.headers[STREAM_POSITION] = position\n",
            "            pass\n",
        ),
        (FOLLOWING,),
    ),
    Mutant(
        "unsigned ticket",
        "a page reads any application and chat whose numbers it writes into its ticket",
        edit("live/tickets.py", "_signer().unsign(ticket)", 'ticket.rpartition(".")[0]'),
        (TICKETS,),
    ),
    Mutant(
        "ticket of another chat accepted",
        "a page that may read one chat reads all of them",
        edit("live/tickets.py", "chats = None if found[4] == WHOLE_APPLICATION else", "chats = None if found else"),
        (TICKETS,),
    ),
    Mutant(
        "ticket of another application accepted",
        "a ticket of one application grants another one of its partition",
        edit("live/tickets.py", 'f"{SALT} {token}"', "SALT"),
        (TICKETS,),
    ),
    Mutant(
        "expired ticket accepted",
        "who once had a ticket reads for ever",
        edit("live/tickets.py", "if expires <= time.time():", "if False:"),
        (TICKETS,),
    ),
    Mutant(
        "ticket without a purpose",
        "whatever else the product signs counts as a ticket",
        edit("live/tickets.py", 'Signer(salt=SALT, sep=".")', 'Signer(sep=".")'),
        (TICKETS,),
    ),
    Mutant(
        "ticket for a chat that is not there",
        "a ticket grants chats that are created later",
        edit("live/views.py", "if number not in existing", "if False"),
        (TICKETS,),
    ),
    Mutant(
        "ticket for stored chats only",
        "a chat that was just created gets no ticket",
        edit("chats/selectors.py", "if of and of.created is not None)}", "if False)}"),
        (TICKETS,),
    ),
    Mutant(
        "ticket in the log",
        "who reads the logs can read the chats",
        edit("chatsystem/logs/formatters.py", r'[0-9a-f]{32}(?:(?:\.[\w-]+){4})?"', '[0-9a-f]{32}"'),
        (f"{TICKETS} -k log",),
    ),
    Mutant(
        "CORS for /admin",
        "a page of another origin reads what an operator sees",
        edit("chatsystem/api/cors.py", "if not request.path_info.startswith(PATHS):", "if False:"),
        (f"{CORS} -k operators",),
    ),
    Mutant(
        "CORS for every origin",
        "any page uses the API from a visitor's browser",
        edit(
            "chatsystem/api/cors.py",
            'if origin not in settings.CORS_ORIGINS:\n        return {"Vary": "Origin"}',
            "if origin is None:\n        return {}",
        ),
        (f"{CORS} -k no_other_page",),
    ),
    Mutant(
        "CORS without Vary",
        "a cache gives a page the response that names another origin",
        edit("chatsystem/api/cors.py", 'return {"Vary": "Origin"}', "return {}"),
        (CORS,),
    ),
    Mutant(
        "CORS within conditional requests",
        "a page cannot read a 304",
        edit("chatsystem/settings.py", CORS_FIRST, CORS_LAST),
        (CORS,),
    ),
    Mutant(
        "streams limited by rate",
        "a page that reconnects uses up the requests of its application",
        edit(
            "chatsystem/api/rate_limit.py",
            "    if EVENTS_PATH.fullmatch(request.path_info):\n        return None\n",
            "",
        ),
        (f"{RATE_LIMIT} -k events",),
    ),
    Mutant(
        "no gap rule",
        "what is stored and trimmed before a live process has read it is delivered to nobody",
        edit("live/reader.py", "        if tail.stored > cursor.arrival:\n", "        if False:\n"),
        (f"{DELIVERY} -k trimmed",),
    ),
    Mutant(
        "replay and log overlap",
        "a client that comes back gets an event twice",
        edit("live/backlog.py", "bisect_right(self.arrivals, arrival)", "bisect_right(self.arrivals, arrival - 1)"),
        (BACKLOG,),
    ),
    Mutant(
        "log after a later mark",
        "events that are stored between two looks at the log are in neither",
        edit(
            "live/catchup.py",
            "        if tail.stored > position.arrival:\n",
            "        tail = tails({subject.partition: tail.clock})[subject.partition]\n"
            "        if tail.stored > position.arrival:\n",
        ),
        (f"{DELIVERY} -k whatever_was_stored",),
    ),
    Mutant(
        "held events of any term",
        "a stream goes on although the events that it has shown were taken back",
        edit("live/backlog.py", "if position.term != self.head.term and", "if False and"),
        (BACKLOG,),
    ),
    Mutant(
        "held events that were taken back",
        "a stream shows events that a Redis has lost",
        edit("live/backlog.py", "            self.former = {}\n", ""),
        (BACKLOG,),
    ),
    Mutant(
        "discarded events stay on the page",
        "a page shows a dead letter that was discarded",
        edit("live/backlog.py", "            return Standing.WITHDRAWN\n", "            pass\n"),
        (BACKLOG,),
    ),
    Mutant(
        "last one of a piece",
        "events are left out where a client takes them in pieces",
        edit("live/backlog.py", "end = begin + max_events + 1", "end = begin + max_events"),
        (BACKLOG,),
    ),
    Mutant(
        "events of other chats",
        "a stream of one chat shows the whole application",
        edit("live/frames.py", "(name, event.chat))", "(name, 2))"),
        (f"{DELIVERY} -k of_its_chat",),
    ),
    Mutant(
        "everything at once",
        "a client that reads nothing takes the memory of all others",
        edit(
            "live/streams.py",
            "WRITE_BYTES, WRITE_EVENTS = 256 * 1024, 2_000",
            "WRITE_BYTES, WRITE_EVENTS = 2**40, 2**20",
        ),
        (f"{LIVE_SERVER} -k little_memory",),
    ),
    Mutant(
        "streams that never end count",
        "an application whose clients come and go is refused for ever",
        edit("live/streams.py", "        self._of_application[application] -= 1\n", ""),
        (f"{LIVE_SERVER} -k no_longer_counted",),
    ),
    Mutant(
        "streams without an age",
        "a stream never ends, and keeps alive the process that a deploy has replaced",
        edit("live/streams.py", "elif now >= self.ends_at:", "elif False:"),
        (f"{LIVE_SERVER} -k at_its_age",),
    ),
    Mutant(
        "stalled client that stays",
        "a client that takes nothing keeps its place and its buffers",
        edit("live/streams.py", "if self._writing_since and now - self._writing_since > STALLED:", "if False:"),
        (f"{LIVE_SERVER} -k cut_off",),
    ),
    Mutant(
        "ready without a reader",
        "a live process that reads nothing still gets streams",
        edit("live/asgi.py", "if self.streams.reader.is_alive and not self.streams.stopping:", "if True:"),
        (f"{LIVE_SERVER} -k is_not_ready",),
    ),
    Mutant(
        "ticket without a receipt",
        "a client that repeats a request for a ticket holds two",
        edit("live/views.py", "if key else now", "if False else now"),
        (f"{TICKETS} -k same_ticket",),
    ),
    Mutant(
        "any ticket under one key",
        "a client that reuses a key gets a ticket of other chats than it asked for",
        edit("chatsystem/writelog/append.py", "    if used_for != fingerprint:\n", "    if False:\n"),
        (f"{TICKETS} -k key_of_another_ticket",),
    ),
    Mutant(
        "silent reader",
        "streams stay open and show nothing after the reader has failed",
        edit("live/streams.py", "if self.reader.is_alive or self.stopping:", "if True:"),
        (f"{LIVE_SERVER} -k reader_fails",),
    ),
    Mutant(
        "quiet streams age",
        "a client of a quiet chat comes back at a position that is forgotten",
        edit("live/streams.py", "elif now - self._wrote_at > HEARTBEAT:", "elif False:"),
        (f"{LIVE_SERVER} -k quiet",),
    ),
    Mutant(
        "stop without a hint",
        "all clients of a process come back at the same moment",
        edit("live/worker.py", "            self.asgi.stop()\n", ""),
        (f"{LIVE_SERVER} -k sigterm",),
    ),
    Mutant(
        "push to a client that takes nothing",
        "what a client does not take grows without a limit, and the client is never cut off",
        edit("live/worker.py", "self._closed or self.transport.get_write_buffer_size()", "self._closed"),
        (STREAMS,),
    ),
    Mutant(
        "push of whatever size",
        "four megabytes are written to a client without waiting for it",
        edit("live/streams.py", "len(batch.text) > PUSHED_BYTES or ", ""),
        (STREAMS,),
    ),
    Mutant(
        "push of events that were taken back",
        "a client is not told that a Redis has lost events that it has seen",
        edit(
            "live/streams.py",
            "self.push is None or partition.standing(self.position, self.subject.token_hash) is not Standing.HELD",
            "self.push is None",
        ),
        (f"{DELIVERY} -k taken_back",),
    ),
    Mutant(
        "term that begins in silence",
        "a client that read its lists after a restart of Redis is reset for nothing",
        edit(
            "live/reader.py",
            "if one.cursor != at[one.number]]",
            "if one.cursor is None or one.cursor.arrival != at[one.number].arrival]",
        ),
        (f"{DELIVERY} -k restart_of_redis",),
    ),
    Mutant(
        "stream that begins with what is held",
        "a client that opens a stream gets events that it has seen in the answers to its own requests",
        edit(
            "live/streams.py",
            "            if begin is None:\n                #",
            "            if False:\n                #",
        ),
        (f"{DELIVERY} -k without_a_position",),
    ),
    Mutant(
        "stream that waits in silence",
        "a proxy or client takes a stream that waits for old events for dead",
        edit("live/streams.py", '            if self._beat:\n                await self._send(b"")\n', ""),
        (CATCHING_UP,),
    ),
    Mutant(
        "turn that is kept",
        "after four clients that went away, no stream reads old events any more",
        edit("live/streams.py", "            if turn.done():\n", "            if False:\n"),
        (CATCHING_UP,),
    ),
    Mutant(
        "recent events without what was discarded",
        "a stream that has shown a discarded event is not reset by a new process",
        edit("live/catchup.py", "withdrawn__gt=after).exists()", "withdrawn__gt=after) is None"),
        (CATCHING_UP,),
    ),
    Mutant(
        "recent events that are held already",
        "a client that comes back to a new process gets an event twice",
        edit("live/catchup.py", "for entry in tail.entries if entry.arrival <= base]", "for entry in tail.entries]"),
        (CATCHING_UP,),
    ),
    Mutant(
        "recent events of another term",
        "a stream shows events that were taken back while they were read",
        edit("live/streams.py", "if (partition.base, partition.head.term) == (base, term):", "if True:"),
        (CATCHING_UP,),
    ),
    Mutant(
        "recent events behind later ones",
        "a client that comes back to a new process misses events",
        edit("live/backlog.py", "channel.arrivals[:0] =", "channel.arrivals[len(channel.arrivals):] ="),
        (BACKLOG,),
    ),
    Mutant(
        "chunks for everybody",
        "a client or proxy that speaks HTTP/1.0 reads chunk sizes as part of the events",
        edit("live/worker.py", 'if scope["http_version"] == "1.1":', "if True:"),
        (f"{LIVE_SERVER} -k http_1_0",),
    ),
]
