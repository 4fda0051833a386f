"""Runs Lua scripts in Redis, and identifies the Redis process that runs them.

Fences and leases compare the incarnation: a name that no other Redis process and no promoted replica has. Scripts read
it from INFO. If the user may not run INFO, we name the process ourselves: we load a script that contains a random name,
the mark. Redis keeps scripts only in memory; they are in none of its files, and since version 7.0 no replica gets them.
So a process that knows the script is the one that was named. A mark without its script is from before a restart or a
failover.

https://redis.io/docs/latest/develop/programmability/eval-intro/#script-replication
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis

from chatsystem.writelog.exceptions import NotPermitted
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.redis_client import ask_all, available, group_of, pooled_connection

LUA = Path(__file__).parent / "lua"

#: Bytes of a mark. In hex it is as long as the name from INFO: run_id and replid.
MARK_BYTES = 40

#: The mark of the Redis that this process has met last at each address; '' if INFO names it.
_marks: dict[Hashable, str] = {}


@lru_cache(maxsize=64)
def _script(verb: str, mark: str) -> tuple[str, str]:
    """Returns the script's text and the hash by which Redis knows it."""
    by_mark = f"local function incarnation_of_redis() return '{mark}' end\n"
    shebang, _, body = (LUA / f"{verb}.lua").read_text().partition("\n")
    text = f"{shebang}\n{by_mark if mark else (LUA / 'incarnation_by_info.lua').read_text()}{body}"
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def evaluate(connection: Any, partition: int, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Runs a script in the partition's Redis, to which the connection leads, and returns its answer.

    Bypasses redis-py's client, which took an eighth of a POST's CPU time.
    """
    try:
        return _call(connection, verb, _mark(connection), keys, arguments)
    except redis.exceptions.NoScriptError:
        mark = _look_at_mark(connection, partition)
    except redis.ResponseError as error:
        # A retry is safe: no script asks for its incarnation after it has written.
        if not NotPermitted.from_redis(error) or not (mark := _look_at_mark(connection, partition)):
            raise
    # Uses the mark that was found on this connection. Another thread may have set `_marks` to that of another Redis
    # process by now, and a script with that mark must not get into this one.
    _ask(connection, "SCRIPT", "LOAD", _script(verb, mark)[0])
    return _call(connection, verb, mark, keys, arguments)


def run(partition: int, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    with available(), pooled_connection(partition) as connection:
        return evaluate(connection, partition, verb, keys, arguments)


def run_each(verb: str, calls: Mapping[int, tuple[Sequence[str], Sequence[Any]]]) -> dict[int, Any]:
    """Runs a script once for each partition, with its keys and arguments, in two round trips. Returns the answers.

    One Redis must serve all of the partitions.
    """
    if not calls:
        return {}
    with available(), pooled_connection(next(iter(calls))) as connection:
        return evaluate_each(connection, verb, calls)


def evaluate_each(
    connection: Any, verb: str, calls: Mapping[int, tuple[Sequence[str], Sequence[Any]]]
) -> dict[int, Any]:
    """Does what `run_each` does on a connection to the partitions' Redis."""
    first, *others = calls
    answer = evaluate(connection, first, verb, *calls[first])
    mark = _mark(connection)
    answers = ask_all(connection, [_command(verb, mark, *calls[partition]) for partition in others])
    return {first: answer, **dict(zip(others, answers, strict=True))}


def incarnation(partition: int) -> str:
    """Returns the name of the Redis process that serves the partition."""
    with available(), pooled_connection(partition) as connection:
        if _mark(connection):
            # Another process of ours may have renamed the Redis after somebody emptied it.
            _look_at_mark(connection, partition)
        return evaluate(connection, partition, "incarnation", [], [])


def may_run_info(partition: int) -> bool:
    """Returns whether our user may run INFO on the partition's Redis."""
    with available(), pooled_connection(partition) as connection:
        return _may_run_info(connection)


def _mark(connection: Any) -> str:
    return _marks.get(_address(connection), "")


def _address(connection: Any) -> Hashable:
    return getattr(connection, "path", None) or (connection.host, connection.port)


def _look_at_mark(connection: Any, partition: int) -> str:
    """Returns the mark of the Redis at the other end, or '' if INFO names it. Creates the mark if there is none."""
    key = Keys(group_of(partition)[0]).mark
    mark = _ask(connection, "GET", key) or ""
    if not mark or not _knows(connection, key, mark):
        mark = "" if _may_run_info(connection) else _name(connection, key, seen=mark)
    _marks[_address(connection)] = mark
    return mark


def _name(connection: Any, key: str, seen: str) -> str:
    """Names the Redis process and returns the mark that counts: of several concurrent calls, the first one's."""
    mark = secrets.token_hex(MARK_BYTES)
    _ask(connection, "SCRIPT", "LOAD", _script("mark", mark)[0])
    return _call(connection, "mark", mark, [key], [seen])


def _knows(connection: Any, key: str, mark: str) -> bool:
    """Returns whether the mark was given to the Redis process that answers."""
    try:
        _call(connection, "mark", mark, [key], ["-"])
    except redis.exceptions.NoScriptError:
        return False
    return True


def _may_run_info(connection: Any) -> bool:
    try:
        _ask(connection, "INFO", "server")
    except redis.ResponseError as error:
        if not NotPermitted.from_redis(error):
            raise
        return False
    return True


def _call(connection: Any, verb: str, mark: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    return _ask(connection, *_command(verb, mark, keys, arguments))


def _command(verb: str, mark: str, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
    _, digest = _script(verb, mark)
    return "EVALSHA", digest, len(keys), *keys, *arguments


def _ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()
