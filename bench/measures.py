"""The benchmarks, with their bounds. Documented in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cache, partial
from statistics import median
from urllib.parse import quote

from bench import rows, streams
from bench.clients import Client
from bench.rounds import MEGABYTES, MILLISECONDS, PER_SECOND, SECONDS, Measure, Round, alternating
from bench.stack import (
    APPLICATIONS,
    BATCH,
    BEAT,
    BEFORE,
    CHATS,
    FEW_REQUESTS,
    MANY_APPLICATIONS,
    WEB,
    WORKER,
    ProductSide,
    Side,
    Stack,
    Stored,
)
from bench.wrk import Request
from chatsystem.conf.data_dir import DataDir
from chatsystem.writelog.keys import partition_of

#: The number of applications that share a backlog. Each is drained separately.
DRAINED = 4
LIMIT = 50
#: The numbers of clients that search, and that page through a list.
SEARCHERS, READERS = 2, 1
#: The number of writes after each of which the cached list is checked.
CHECKED_WRITES = 100


# Writes ---------------------------------------------------------------------------------------------------------------


def single(stack: Stack) -> list[Measure]:
    stored = Measure("single POST, acknowledged and stored", PER_SECOND, 4, reference="the straightforward way")
    p99 = Measure("single POST, p99 at 16 clients", MILLISECONDS, 50, at_least=False)
    for turn in range(2):
        ours, theirs = alternating(
            turn,
            lambda: _posted(stack, stack.product, stack.scale.long_seconds),
            # Shorter, because storing what it acknowledges takes it much longer.
            lambda: _posted(stack, stack.reference, max(stack.scale.long_seconds // 5, 1)),
        )
        stored.rounds.append(Round(ours.stored_rate, theirs.stored_rate))
        p99.rounds.append(Round(ours.load.p99))
    return [stored, p99]


def empty(stack: Stack) -> list[Measure]:
    measure = Measure("single POST, acknowledged", PER_SECOND, 0.45, reference="the empty view")
    for turn in range(stack.scale.rounds):
        ours, theirs = alternating(
            turn,
            lambda: _posted(stack, stack.product, stack.scale.seconds),
            lambda: stack.reference.load([Request("GET", "/empty")], stack.scale.seconds),
        )
        stack.say(f"the empty view: {theirs.rate:,.0f} requests/s; wrk took {theirs.core:.0%} of a core")
        measure.rounds.append(Round(ours.acknowledged_rate, theirs.rate))
    return [measure]


def batches(stack: Stack) -> list[Measure]:
    measure = Measure(f"batches of {BATCH}, stored", PER_SECOND, 8, reference="single POST, stored")
    for turn in range(stack.scale.rounds):
        ours, theirs = alternating(
            turn,
            lambda: _posted(stack, stack.product, stack.scale.batch_seconds, BATCH),
            lambda: _posted(stack, stack.product, stack.scale.seconds),
        )
        measure.rounds.append(Round(ours.stored_rate, theirs.stored_rate))
    return [measure]


def lag(stack: Stack) -> list[Measure]:
    seconds = stack.scale.lag_seconds
    measure = Measure(f"search index lag after {seconds} s of single POSTs", SECONDS, 2, at_least=False)
    for _ in range(stack.scale.rounds):
        stored = _posted(stack, stack.product, seconds)
        stack.say(f"everything was indexed {stored.lag:.2f} s after the last post")
        measure.rounds.append(Round(stored.lag))
    return [measure]


def _posted(stack: Stack, side: Side, seconds: int, batch: int = 1, applications: int = APPLICATIONS) -> Stored:
    chats = side.open_chats(applications, CHATS * APPLICATIONS // applications or 1)
    stored = side.post(stack.texts, seconds, batch, chats)
    load = stored.load
    refused = f", {load.refused:,} requests rejected" if load.refused else ""
    stack.say(
        f"{side.database}, {'single POST' if batch == 1 else f'batches of {batch}'}: {stored.acknowledged_rate:,.0f} "
        f"acknowledged/s, {stored.stored_rate:,.0f} stored/s, p99 {load.p99:.1f} ms{refused}; "
        f"wrk took {load.core:.0%} of a core"
    )
    return stored


# The worker side ------------------------------------------------------------------------------------------------------


def drain(stack: Stack) -> list[Measure]:
    """Drains and indexes in one process. The references insert the same rows and index the same documents directly."""
    side, raw, server = stack.product, stack.raw, stack.server
    from bench import internals

    drained = Measure("drain of a backlog, rows", PER_SECOND, 0.5, reference="raw executemany")
    indexed = Measure("outbox to Elasticsearch, documents", PER_SECOND, 0.6, reference="raw bulk")
    with side.standing_still(WORKER):
        tokens = _backlog(stack)
        for token in tokens:
            began = time.monotonic()
            events = internals.drain_application(token)
            ours = events / (time.monotonic() - began)
            stored = server.execute(
                "SELECT m.number, m.body, m.created_at, m.last_request_time FROM product.messages_app_message m"
                " JOIN product.chats_chat c ON c.id = m.chat_id JOIN product.applications_application a"
                f" ON a.id = c.application_id WHERE a.token = '{token}'"
            )
            chat_id, _ = rows.new_chat(server, raw)
            same = [(chat_id, *row) for row in stored]
            theirs = len(same) / rows.executemany(server, raw, same)
            stack.say(f"drain {ours:,.0f} rows/s, raw executemany {theirs:,.0f}/s, {len(same):,} rows")
            drained.rounds.append(Round(ours, theirs))
        for _ in range(stack.scale.rounds):
            documents, took = internals.index_outbox(stack.scale.seconds)
            ours = len(documents) / took
            theirs = len(documents) / internals.bulk(stack.node.url, documents)
            stack.say(f"outbox {ours:,.0f} documents/s, raw bulk {theirs:,.0f}/s, {len(documents):,} documents")
            indexed.rounds.append(Round(ours, theirs))
        internals.clear_outbox()
    side.wait_until_settled()
    return [drained, indexed]


def _backlog(stack: Stack) -> list[str]:
    """Fills the log. Returns the applications' tokens; each application has its own partition."""
    side, of_each = stack.product, stack.scale.backlog // DRAINED
    chats: dict[int, str] = {}
    while len(chats) < DRAINED:
        (chat,) = side.open_chats(1, 1)
        chats.setdefault(partition_of(chat.split("/")[2]), chat)
    bodies = stack.texts.first(of_each)
    tokens = [chat.split("/")[2] for chat in chats.values()]
    for token in tokens:
        for start in range(0, of_each, 1000):
            side.client.create_messages(token, 1, bodies[start : start + 1000])
    stack.say(f"a backlog of {of_each * DRAINED:,} messages waits")
    return tokens


# A large chat ---------------------------------------------------------------------------------------------------------


@cache
def _large_chat(stack: Stack) -> tuple[int, str]:
    """Returns the id of a chat with a million messages in the product's database, and its application's token."""
    side, many = stack.product, stack.scale.many
    stack.say(f"filling a chat with {many:,} messages")
    chat_id, token = rows.new_chat(stack.server, side.database)
    rows.fill(stack.server, side.database, chat_id, stack.texts.all, many)
    # After a post, Redis has the chat's counter, as for any chat in use.
    assert side.client.create_message(token, 1, "one more").number == many + 1
    side.wait_until_settled()
    return chat_id, token


def pages(stack: Stack) -> list[Measure]:
    """Requests a different page each time, so that none comes from the cache."""
    measure = Measure(
        f"list page at the end, time (chat of {stack.scale.many:,})", MILLISECONDS, 1.2, False, "first page"
    )
    side, many = stack.product, stack.scale.many
    path = f"/applications/{_large_chat(stack)[1]}/chats/1/messages?limit={LIMIT}"
    span = many // 20
    for turn in range(2 * stack.scale.rounds):
        low = turn * span // (2 * stack.scale.rounds)
        starts = range(low, low + span // (2 * stack.scale.rounds))
        last = [Request("GET", f"{path}&after={many - LIMIT - start}") for start in starts]
        first = [Request("GET", f"{path}&after={start}") for start in starts]
        ours, theirs = alternating(
            turn,
            partial(side.load, last, _short(stack), READERS),
            partial(side.load, first, _short(stack), READERS),
        )
        measure.rounds.append(Round(ours.p50, theirs.p50))
        stack.say(f"a page at the end {ours.p50:.2f} ms, a first page {theirs.p50:.2f} ms")
    return [measure]


def cached(stack: Stack) -> list[Measure]:
    measure = Measure("GET of a cached list, requests", PER_SECOND, 2, reference="of one that is not")
    side = stack.product
    path = f"/applications/{_large_chat(stack)[1]}/chats/1/messages?limit={LIMIT}"
    # More pages than a round requests, and different ones in each round.
    span = stack.scale.many // 10
    for turn in range(stack.scale.rounds):
        same = [Request("GET", f"{path}&after={turn * span}")]
        others = [Request("GET", f"{path}&after={start}") for start in range(turn * span + 1, (turn + 1) * span)]
        ours, theirs = alternating(
            turn, partial(side.load, same, _short(stack)), partial(side.load, others, _short(stack))
        )
        assert theirs.requests < len(others), "uncached lists came twice"
        stack.say(f"the same list {ours.rate:,.0f} requests/s, another each time {theirs.rate:,.0f}/s")
        measure.rounds.append(Round(ours.rate, theirs.rate))
    asyncio.run(_check_for_stale_lists(side))
    stack.say(f"{CHECKED_WRITES} writes, each visible in the cached list at once")
    return [measure]


async def _check_for_stale_lists(side: ProductSide) -> None:
    """Raises AssertionError if a list lacks a write that was acknowledged before the request."""
    (chat,) = side.open_chats(1, 1)
    path = f"{chat}/messages"
    lists = f"{path}?order=desc&limit={LIMIT}"
    writer, reader = Client(side.url), Client(side.url)
    done = False

    async def keep_cached() -> None:
        """Keeps the list in the cache between the writes."""
        while not done:
            await reader.get(lists)

    reading = asyncio.create_task(keep_cached())
    try:
        for _ in range(CHECKED_WRITES):
            written = (await writer.post(path, {"body": "a write that must be visible"})).json()["number"]
            seen = (await writer.get(lists)).json()["results"][0]["number"]
            assert seen == written, f"a cached list ends with message {seen} after {written} was acknowledged"
    finally:
        done = True
        await reading
        writer.close()
        reader.close()


def growth(stack: Stack) -> list[Measure]:
    """Posts the same batches to a database that stays small and to one that grows."""
    scale, large, small = stack.scale, stack.product, stack.small
    chat_id, token = _large_chat(stack)
    few, _ = rows.new_chat(stack.server, small.database)
    rows.fill(stack.server, small.database, few, stack.texts.all, scale.few)
    measures = []
    for size in (scale.many, scale.most):
        if size > scale.many:
            stack.say(f"filling the database with {size:,} messages")
            for number in range(2, size // scale.many + 1):
                target, _ = rows.new_chat(stack.server, large.database, token, number)
                rows.copy(stack.server, large.database, chat_id, target, scale.many)
        measure = Measure(f"stored with {size:,} messages", PER_SECOND, 0.9, reference=f"with {scale.few:,}")
        for turn in range(scale.rounds):
            ours, theirs = alternating(
                turn,
                lambda: _posted(stack, large, scale.batch_seconds, BATCH),
                lambda: _posted(stack, small, scale.batch_seconds, BATCH),
            )
            measure.rounds.append(Round(ours.stored_rate, theirs.stored_rate))
        measures.append(measure)
    return measures


# Search ---------------------------------------------------------------------------------------------------------------


def search(stack: Stack) -> list[Measure]:
    side, many = stack.product, stack.scale.many
    chat_id, token = _large_chat(stack)
    from bench import internals

    stack.say(f"indexing {many:,} messages in Elasticsearch")
    ids = stack.server.execute(
        f"SELECT id, number FROM product.messages_app_message WHERE chat_id = {chat_id} AND number <= {many}"
    )
    internals.fill_cluster(stack.node.url, ids, token, stack.texts.all[: rows.FROM_CLIENT])
    measure = Measure(f"search, p99 over {many:,} messages (Elasticsearch)", MILLISECONDS, 50, at_least=False)
    return [_searched(stack, measure, side, token)]


def search_embedded(stack: Stack) -> list[Measure]:
    product, many = stack.embedded, stack.scale.many
    side = Side(product.url, stack.server, "")
    token = side.client.create_application("filled").token
    from bench import internals

    stack.say(f"indexing {many:,} messages in the embedded index")
    internals.fill_embedded(DataDir(product.data_dir).search_index, token, stack.texts.all, many)
    measure = Measure(f"search, p99 over {many:,} messages (embedded)", MILLISECONDS, 200, at_least=False)
    return [_searched(stack, measure, side, token)]


def _searched(stack: Stack, measure: Measure, side: Side, token: str) -> Measure:
    for turn in range(stack.scale.rounds + 1):
        queries = stack.texts.queries(5_000, seed=turn)
        requests = [Request("GET", f"/search/{quote(query)}?application={token}") for query in queries]
        seen = side.load(requests, stack.scale.seconds, SEARCHERS)
        assert not seen.refused
        stack.say(f"search: p50 {seen.p50:.1f} ms, p99 {seen.p99:.1f} ms, {seen.rate:,.0f} searches/s")
        # The first round warms up: the cluster compiles hot code and reads the index for the first time.
        if turn:
            measure.rounds.append(Round(seen.p99))
    return measure


# Against an earlier commit --------------------------------------------------------------------------------------------


def tenants(stack: Stack) -> list[Measure]:
    name = f"single POST, stored, {MANY_APPLICATIONS} applications"
    measure = Measure(name, PER_SECOND, 0.95, reference=f"{APPLICATIONS} applications")
    for turn in range(stack.scale.turns):
        ours, theirs = alternating(
            turn,
            lambda: _posted(stack, stack.product, stack.scale.seconds, applications=MANY_APPLICATIONS),
            lambda: _posted(stack, stack.product, stack.scale.seconds),
        )
        measure.rounds.append(Round(ours.stored_rate, theirs.stored_rate))
    return [measure]


def before(stack: Stack) -> list[Measure]:
    """Compares the product with the commit BEFORE, and that commit with itself. The other side is stopped meanwhile."""
    worker = f"workers' CPU per message, {MANY_APPLICATIONS} applications"
    figures = {
        "stored": Measure("single POST, stored", PER_SECOND, 1.8, reference=BEFORE),
        "p99": Measure("single POST, p99 at 16 clients", MILLISECONDS, 0.6, False, BEFORE),
        "worker": Measure(worker, MILLISECONDS, 0.4, False, BEFORE),
        "get": Measure("GET of a message, CPU of the web processes", MILLISECONDS, 0.5, False, BEFORE),
        "batches": Measure(f"batches of {BATCH}, stored", PER_SECOND, 1.1, reference=BEFORE),
    }
    itself = {
        name: Measure(f"{BEFORE} again: {measure.name}", measure.unit, 0, reference=BEFORE)
        for name, measure in figures.items()
    }
    sides = [("ours", stack.product, stack.before)]
    sides += [(name, stack.before, stack.product) for name in ("theirs", "again")]
    costs: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in sides}
    for turn in range(stack.scale.turns):
        order = sides[turn % 3 :] + sides[: turn % 3]
        found = {}
        for name, side, other in order:
            found[name], cost = _compared(stack, side, other)
            costs[name].append(cost)
        for name, measure in figures.items():
            measure.rounds.append(Round(found["ours"][name], found["theirs"][name]))
            itself[name].rounds.append(Round(found["again"][name], found["theirs"][name]))
    for name, rounds in costs.items():
        medians = [f"{tier} {median(cost[tier] for cost in rounds):.2f}" for tier in rounds[0]]
        stack.say(f"{name}: CPU milliseconds of a single POST: {', '.join(medians)}")
    return [*figures.values(), *itself.values()]


def _compared(stack: Stack, side: ProductSide, other: ProductSide) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the figures of `before` for one side, while the other one stands still.

    The second result is the CPU milliseconds that each tier takes for a single POST.
    """
    seconds = stack.scale.seconds
    # Only what would compute. The kernel sends SIGHUP to a job with paused processes when its shell ends, and SIGHUP
    # stops the runner. Web processes that are paused for more than their timeout are replaced.
    with other.standing_still(BEAT, WORKER):
        side.product.wait_until_ready()
        before = stack.cpu(side)
        single = _posted(stack, side, seconds)
        after = stack.cpu(side)
        used = side.cpu(WORKER)
        many = _posted(stack, side, seconds, applications=MANY_APPLICATIONS)
        worker = (side.cpu(WORKER) - used) / many.load.accepted
        (chat,) = side.open_chats(1, 1)
        side.client.create_messages(chat.split("/")[2], 1, stack.texts.first(BATCH))
        side.wait_until_settled()
        used = side.cpu(WEB)
        read = side.load([Request("GET", f"{chat}/messages/{number}") for number in range(1, BATCH + 1)], seconds)
        get = (side.cpu(WEB) - used) / read.accepted
        batches = _posted(stack, side, stack.scale.batch_seconds, BATCH)
    found = {
        "stored": single.stored_rate,
        "p99": single.load.p99,
        "worker": worker * 1_000,
        "get": get * 1_000,
        "batches": batches.stored_rate,
    }
    return found, {tier: (after[tier] - before[tier]) / single.load.accepted * 1_000 for tier in after}


# Memory ---------------------------------------------------------------------------------------------------------------


def memory(stack: Stack) -> list[Measure]:
    """Runs last, because the requests of all other benchmarks count."""
    side = stack.product
    measure = Measure("memory of the web processes", MEGABYTES, 1.05, False, f"after {FEW_REQUESTS:,} requests each")
    before = stack.memory_at_first
    stack.say(f"the web processes have handled {side.requests:,} requests")
    while side.requests < stack.scale.requests * len(before):
        side.load(stack.every_kind_of_request, stack.scale.seconds)
    after = side.web_memory()
    assert after.keys() == before.keys(), "a web process was replaced"
    stack.say(f"after {side.requests:,}: {', '.join(f'{size / 1e6:.1f} MB' for size in after.values())}")
    measure.rounds = [Round(after[pid] / 1e6, before[pid] / 1e6) for pid in before]
    return [measure]


def _short(stack: Stack) -> int:
    return max(stack.scale.seconds // 2, 1)


#: In the order in which they run: later ones use the data of earlier ones. Batches come first, because they make the
#: cluster compile its hot code. The million documents come late, because the cluster continues to merge them.
MEASURES: dict[str, Callable[[Stack], list[Measure]]] = {
    "batches": batches,
    "empty": empty,
    "single": single,
    "lag": lag,
    "drain": drain,
    "pages": pages,
    "cached": cached,
    "growth": growth,
    "search": search,
    "search-embedded": search_embedded,
    "deliveries": streams.deliveries,
    "delay": streams.delay,
    "cut": streams.cut,
    "replay": streams.replay,
    "listeners": streams.listeners,
    "feed": streams.feed,
    "idle": streams.idle,
    "memory": memory,
    "tenants": tenants,
    "before": before,
}
#: Those that take minutes each, and run only when they are named.
ON_REQUEST = {"tenants", "before"}
