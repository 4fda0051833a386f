"""Maps each partition to the Redis that serves it. Documented in docs/redis.md, "More than one server".

redis-py knows the topology of a Sentinel's service and of a Cluster. Several servers in REDIS_URL share the partitions
evenly, in the given order.
"""

from __future__ import annotations

import threading
import time
from binascii import crc32
from collections.abc import Collection
from functools import cache
from typing import Any, Protocol

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from chatsystem.conf import addresses
from chatsystem.writelog.keys import PARTITIONS, Keys

#: The layout of a single Redis, as earlier versions stored it: "socket" or "server".
SINGLE = "1"
#: Seconds between two looks of a process at the topology of a Cluster.
LOOK_INTERVAL = 0.2


class Servers(Protocol):
    """The Redis servers that REDIS_URL names. While none of a Cluster answers, its methods raise redis-py's errors."""

    def client(self, partition: int) -> Any:
        """Returns the client of the Redis that serves the partition."""

    def groups(self) -> list[list[int]]:
        """Returns the partitions of each Redis. Every partition is in one group."""

    def clients(self) -> Collection[Any]:
        """Returns the clients that hold connections."""

    def look_again(self) -> None:
        """Follows a change of the topology, after an error that may come from one."""

    @property
    def layout(self) -> str:
        """Says which server serves which partition, as the database stores it. At most 20 characters."""


class Listed:
    """The servers of a list. Each is a Redis or a Sentinel's service."""

    def __init__(self, urls: list[str], options: dict[str, Any]) -> None:
        self._clients = [_client(url, options) for url in urls]
        self._names = [addresses.server_name(url) for url in urls]

    def client(self, partition: int) -> Any:
        return self._clients[partition * len(self._clients) // PARTITIONS]

    def groups(self) -> list[list[int]]:
        groups: list[list[int]] = [[] for _ in self._clients]
        for partition in range(PARTITIONS):
            groups[partition * len(groups) // PARTITIONS].append(partition)
        return groups

    def clients(self) -> Collection[Any]:
        return self._clients

    def look_again(self) -> None:
        """Closes idle connections to a Sentinel's primary: its pool asks for the primary with each new connection."""
        for client in self._clients:
            if isinstance(client.connection_pool, SentinelConnectionPool):
                client.connection_pool.disconnect(inuse_connections=False)

    @property
    def layout(self) -> str:
        if len(self._names) > 1:
            return f"{len(self._names)}:{crc32(','.join(self._names).encode()):08x}"
        # A single server serves all partitions, whatever its address. A socket's Redis, such as that of `make run`, is
        # another one: it would be left behind when REDIS_URL names a server.
        return "socket" if self._names[0].startswith("/") else "server"


class Cluster:
    """A Redis Cluster. Each partition has one slot, since all its keys share a hash tag."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._options = options
        self._nodes = addresses.Nodes.parse(url)
        self._lock = threading.Lock()
        self._found: Any = None
        self._looked_at = 0.0

    def _cluster(self) -> Any:
        # Connects on the first use: the Cluster may start after this process.
        if self._found is None:
            with self._lock:
                if self._found is None:
                    nodes = [ClusterNode(host, port) for host, port in self._nodes.addresses]
                    self._found = redis.RedisCluster(startup_nodes=nodes, **self._nodes.credentials, **self._options)
        return self._found

    def client(self, partition: int) -> Any:
        cluster = self._cluster()
        return _with_raw_entries(cluster.get_redis_connection(cluster.get_node_from_key(Keys(partition).log)))

    def groups(self) -> list[list[int]]:
        cluster = self._cluster()
        groups: dict[str, list[int]] = {}
        for partition in range(PARTITIONS):
            try:
                name = cluster.get_node_from_key(Keys(partition).log).name
            except redis.exceptions.SlotNotCoveredError:
                name = ""  # Those that nobody serves are a group too: whoever asks it gets the error.
            groups.setdefault(name, []).append(partition)
        return [groups[name] for name in sorted(groups)]

    def clients(self) -> Collection[Any]:
        if self._found is None:
            return []
        return [node.redis_connection for node in self._found.get_nodes() if node.redis_connection]

    def look_again(self) -> None:
        cluster = self._found
        # One thread is enough, and not for each of many errors.
        if cluster is None or time.monotonic() < self._looked_at + LOOK_INTERVAL:
            return
        self._looked_at = time.monotonic()
        cluster.nodes_manager.initialize()

    @property
    def layout(self) -> str:
        # Slots move by themselves, with their keys.
        return "cluster"


@cache
def servers() -> Servers:
    """Returns the servers of REDIS_URL."""
    return servers_of(settings.REDIS_URL)


def servers_of(url: str, timeout: float | None = None) -> Servers:
    """Returns the servers that a value of REDIS_URL names. `timeout` replaces REDIS_TIMEOUT."""
    options = _options(timeout or settings.REDIS_TIMEOUT)
    return Cluster(url, options) if url.startswith(addresses.CLUSTER) else Listed(addresses.servers(url), options)


def _options(timeout: float) -> dict[str, Any]:
    # No retries in the driver: it would run a script twice. append retries by itself, under the same request key.
    return {
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 30,
    }


def _client(url: str, options: dict[str, Any]) -> Any:
    # The pool does not belong to the client. `cache` lets two threads create a client each and drops one; a client that
    # owned its pool would close it under the request that had just taken a connection from it.
    return _with_raw_entries(redis.Redis(connection_pool=_pool(url, options)))


def _pool(url: str, options: dict[str, Any]) -> redis.ConnectionPool:
    if not url.startswith(addresses.SENTINEL):
        return redis.ConnectionPool.from_url(url, **options)
    nodes = addresses.Nodes.parse(url)
    sentinels = Sentinel(nodes.addresses, sentinel_kwargs={**nodes.sentinel_credentials, **options})
    return SentinelConnectionPool(nodes.service, sentinels, **nodes.credentials, db=nodes.database, **options)


def _with_raw_entries(client: Any) -> Any:
    """Keeps the raw entries of a stream instead of building a dictionary for each: a drain reads thousands."""
    # Once for each client. redis-py creates those of a Cluster, also later, when a node joins.
    if client.response_callbacks.get("XRANGE") is not _as_it_is:
        client.set_response_callback("XRANGE", _as_it_is)
    return client


def _as_it_is(entries: Any) -> Any:
    return entries
