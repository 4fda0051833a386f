"""The indexes behind two aliases: the one in service, the one that is being built. Documented in docs/search.md.

| name | what it is |
|---|---|
| PREFIX-v1 | alias of the index in service: searched, and written by the indexer |
| PREFIX-v1-next | alias of the index that is being built: written by the indexer too, from its first moment on |
| PREFIX-v1-000007 | an index; without either alias it is an old one |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from elasticsearch import BadRequestError, Elasticsearch

from search.backends.base import SearchUnavailable
from search.backends.elasticsearch.client import first_client, patient_client
from search.backends.elasticsearch.document import SCHEMA_VERSION, mapping
from search.text import TERM_LENGTH

#: One shard, so that scores of all hits come from the same counts. `gc_deletes` lets a removed document's id take a
#: lower version: a database that was put back has them. `max_regex_length` is of prefixes too, in UTF-16 units.
ALWAYS = {"number_of_shards": 1, "gc_deletes": "0s", "max_regex_length": 2 * TERM_LENGTH}
WHILE_BUILT = {"number_of_replicas": 0, "refresh_interval": "-1"}
IN_SERVICE = {"auto_expand_replicas": "0-1", "refresh_interval": "1s"}


def live() -> str:
    return f"{settings.ELASTICSEARCH_INDEX_PREFIX}-v{SCHEMA_VERSION}"


def building() -> str:
    return f"{live()}-next"


@dataclass(frozen=True, slots=True)
class Indexes:
    live: str | None
    building: str | None
    #: All of this prefix, of other schema versions too.
    names: list[str]

    @property
    def old(self) -> list[str]:
        return [name for name in self.names if name not in (self.live, self.building)]

    @property
    def written(self) -> list[str]:
        """The aliases that the indexer writes to."""
        return [alias for alias, name in ((live(), self.live), (building(), self.building)) if name]


def look(cluster: Elasticsearch | None = None) -> Indexes:
    """As they are now. `cluster` says how long the answer is waited for: as for an indexer's first question."""
    prefix = settings.ELASTICSEARCH_INDEX_PREFIX
    found = (cluster or first_client()).indices.get(index=f"{prefix}-v*", features="aliases")
    ours = re.compile(rf"{re.escape(prefix)}-v\d+-\d{{6}}")
    names = sorted(name for name in found if ours.fullmatch(name))
    aliases = {name: found[name]["aliases"] for name in names}
    return Indexes(_behind(live(), aliases), _behind(building(), aliases), names)


def _behind(alias: str, aliases: dict[str, dict[str, object]]) -> str | None:
    names = [name for name, held in aliases.items() if alias in held]
    if len(names) > 1:
        raise SearchUnavailable(f"{alias} is an alias of more than one index: {', '.join(names)}")
    return names[0] if names else None


def begin() -> str:
    """The index to build: the one that a rebuild left half-built, or a new one. Two that begin at once get the same."""
    while True:
        indexes = look()
        if indexes.building:
            return indexes.building
        numbers = [int(name.rpartition("-")[2]) for name in indexes.names if name.startswith(f"{live()}-")]
        name = f"{live()}-{max(numbers, default=0) + 1:06}"
        try:
            # With its alias from the start: whoever writes from now on writes to it too.
            patient_client().indices.create(
                index=name, mappings=mapping(), settings=ALWAYS | WHILE_BUILT, aliases={building(): {}}
            )
        except BadRequestError as error:
            if error.message != "resource_already_exists_exception":
                raise


def finish() -> None:
    """Puts the index that was built into service, in one step for searches and writers alike."""
    indexes = look()
    if not indexes.building:
        raise SearchUnavailable("another reindex has finished the index meanwhile")
    patient_client().indices.put_settings(index=indexes.building, settings=IN_SERVICE)
    patient_client().indices.refresh(index=indexes.building)
    actions: list[dict[str, Any]] = [
        {"remove": {"index": indexes.building, "alias": building(), "must_exist": True}},
        {"add": {"index": indexes.building, "alias": live()}},
    ]
    if indexes.live:
        actions.append({"remove": {"index": indexes.live, "alias": live(), "must_exist": True}})
    patient_client().indices.update_aliases(actions=actions)


def drop_old() -> list[str]:
    old = look().old
    for name in old:
        patient_client().indices.delete(index=name)
    return old
