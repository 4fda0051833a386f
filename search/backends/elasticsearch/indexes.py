"""Manages the indexes behind two aliases: the one in service and the one being built. Documented in docs/search.md.

| name | meaning |
|---|---|
| PREFIX-v2 | alias of the index in service: searches read it, the indexer writes it |
| PREFIX-v2-next | alias of the index being built: the indexer writes it too, from the moment it exists |
| PREFIX-v2-000007 | an index; without an alias it is out of service |
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from elasticsearch import BadRequestError, Elasticsearch

from search.backends.base import SearchUnavailable
from search.backends.elasticsearch.client import indexing_client, probe_client
from search.backends.elasticsearch.document import SCHEMA_VERSION, mapping
from search.tokenizer import TERM_LENGTH

logger = logging.getLogger(__name__)

#: Seconds that the index being built may lack every copy of a shard before it is discarded.
LOST_AFTER = 3.0


def building_settings() -> dict[str, Any]:
    """Returns the settings of an index that is being built. It has replicas, or it would die with the first node.

    With `gc_deletes` a removed id can get a lower version again, which a restored database needs. `max_regex_length`
    also limits prefix queries, and counts UTF-16 units.
    """
    fixed = {"gc_deletes": "0s", "max_regex_length": 2 * TERM_LENGTH, "number_of_shards": settings.ELASTICSEARCH_SHARDS}
    return fixed | service_settings() | {"refresh_interval": "-1"}


def service_settings() -> dict[str, Any]:
    """Returns the settings that can change in service. A rebuild applies them at its end.

    The cluster keeps as many of the replicas as it has nodes for, so a single node has none and is green.
    """
    return {"auto_expand_replicas": f"0-{settings.ELASTICSEARCH_REPLICAS}", "refresh_interval": "1s"}


def live_alias() -> str:
    return f"{settings.ELASTICSEARCH_INDEX_PREFIX}-v{SCHEMA_VERSION}"


def building_alias() -> str:
    return f"{live_alias()}-next"


@dataclass(frozen=True, slots=True)
class Indexes:
    live: str | None
    building: str | None
    #: All indexes with this prefix, including those of other schema versions.
    names: list[str]

    @property
    def old(self) -> list[str]:
        return [name for name in self.names if name not in (self.live, self.building)]

    @property
    def write_aliases(self) -> list[str]:
        """Returns the aliases that the indexer writes to."""
        return [alias for alias, name in ((live_alias(), self.live), (building_alias(), self.building)) if name]


def read_indexes(cluster: Elasticsearch | None = None) -> Indexes:
    """Returns the indexes and aliases that exist now. `cluster` is the client to use, by default the probe client."""
    prefix = settings.ELASTICSEARCH_INDEX_PREFIX
    found = (cluster or probe_client()).indices.get(index=f"{prefix}-v*", features="aliases")
    ours = re.compile(rf"{re.escape(prefix)}-v\d+-\d{{6}}")
    names = sorted(name for name in found if ours.fullmatch(name))
    aliases = {name: found[name]["aliases"] for name in names}
    return Indexes(_index_of(live_alias(), aliases), _index_of(building_alias(), aliases), names)


def _index_of(alias: str, aliases: dict[str, dict[str, object]]) -> str | None:
    names = [name for name, held in aliases.items() if alias in held]
    if len(names) > 1:
        raise SearchUnavailable(f"{alias} is an alias of more than one index: {', '.join(names)}")
    return names[0] if names else None


def begin() -> str:
    """Returns the index to build: an unfinished one, or a new one. Concurrent callers get the same index."""
    while True:
        indexes = read_indexes()
        if indexes.building and not discard_lost():
            return indexes.building
        # Never reuse the number of an index that was lost with its node: the node may come back.
        numbers = [int(name.rpartition("-")[2]) for name in indexes.names if name.startswith(f"{live_alias()}-")]
        name = f"{live_alias()}-{max(numbers, default=0) + 1:06}"
        try:
            # With its alias from the start, so that every later write reaches it.
            indexing_client().indices.create(
                index=name,
                mappings=mapping(),
                settings=building_settings(),
                aliases={building_alias(): {}},
            )
        except BadRequestError as error:
            if error.message != "resource_already_exists_exception":
                raise


def discard_lost() -> bool:
    """Deletes the index being built if every copy of a shard is gone, as with its nodes. Returns whether it was.

    Everything in it is also in the database. While it exists, no message can be written to the index in service either.
    """
    name = read_indexes().building
    if not name:
        return False
    deadline = time.monotonic() + LOST_AFTER
    while True:
        health = indexing_client().cluster.health(index=name, timeout="1s")
        # A copy that a restarted node is reading back from its disk is not gone: it is initializing.
        if health["status"] != "red" or health["initializing_shards"]:
            return False
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    logger.warning("every copy of a shard of %s, which was being built, is gone: it is discarded and built again", name)
    indexing_client().options(ignore_status=404).indices.delete(index=name)
    return True


def finish() -> None:
    """Puts the index that was built into service, in one atomic step for searches and writers."""
    indexes = read_indexes()
    if not indexes.building:
        raise SearchUnavailable("another reindex has finished this index meanwhile")
    indexing_client().indices.put_settings(index=indexes.building, settings=service_settings())
    indexing_client().indices.refresh(index=indexes.building)
    actions: list[dict[str, Any]] = [
        {"remove": {"index": indexes.building, "alias": building_alias(), "must_exist": True}},
        {"add": {"index": indexes.building, "alias": live_alias()}},
    ]
    if indexes.live:
        actions.append({"remove": {"index": indexes.live, "alias": live_alias(), "must_exist": True}})
    indexing_client().indices.update_aliases(actions=actions)


def drop_old() -> list[str]:
    old = read_indexes().old
    for name in old:
        indexing_client().indices.delete(index=name)
    return old


def unapplied_settings() -> list[str]:
    """Returns a sentence for each setting that differs from the index in service."""
    if not read_indexes().live:
        return []
    (found,) = probe_client().indices.get_settings(index=live_alias(), flat_settings=True).values()
    held = found["settings"]
    wanted = {
        "ELASTICSEARCH_SHARDS": (str(settings.ELASTICSEARCH_SHARDS), held["index.number_of_shards"]),
        "ELASTICSEARCH_REPLICAS": (
            str(settings.ELASTICSEARCH_REPLICAS),
            held.get("index.auto_expand_replicas", "").removeprefix("0-"),
        ),
    }
    return [
        f"{name} is {want}, and the index in service was built with {has}; run manage.py reindex to apply it."
        for name, (want, has) in wanted.items()
        if want != has
    ]
