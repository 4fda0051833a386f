"""What the cluster holds of a message. Documented in docs/search.md."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django_elasticsearch_dsl import Document as DslDocument
from django_elasticsearch_dsl import fields
from elasticsearch.dsl import MetaField

from chatsystem.writelog.arrival import to_datetime, to_micros
from search import text
from search.documents import Document

#: Moves with the mapping, and with what search.text takes for a word. It is part of the index's name: an index of
#: another version is not found, so it is neither searched nor written.
SCHEMA_VERSION = 1

#: Characters of a word whose beginnings are terms. A longer beginning is looked for among the long words.
PREFIX_LENGTH = 20

#: Stands wherever a CJK character has no CJK neighbour. Not a letter, so no query asks for it.
GAP = "·"


class MessageDocument(DslDocument):
    """The mapping. Its terms come from search.text, parted by spaces: no analyzer is needed that a plain node lacks.

    django-elasticsearch-dsl is not among INSTALLED_APPS: its signals would index within the request. The outbox does.
    """

    #: The beginnings of every word, so that "begins with" is one term: its bm25 is that of FTS5's prefix query.
    prefixes = fields.TextField(analyzer="whitespace", index_options="freqs")
    long_words = fields.KeywordField(doc_values=False)
    #: CJK characters, one each, for phrases.
    runs = fields.TextField(analyzer="whitespace")

    id = fields.LongField()
    version = fields.LongField(index=False, doc_values=False)
    application_token = fields.KeywordField(doc_values=False)
    #: A keyword, as it is only ever compared.
    chat_number = fields.KeywordField(doc_values=False)
    number = fields.LongField(index=False, doc_values=False)
    body = fields.KeywordField(index=False, doc_values=False)
    #: Microseconds since 1970: the cluster's dates end at milliseconds.
    created_at = fields.LongField(index=False)

    class Meta:
        dynamic = MetaField("strict")
        # Terms are made anew from the body; kept beside it, they would be most of the index.
        source = MetaField(excludes=["prefixes", "long_words", "runs"])


def mapping() -> dict[str, Any]:
    told: dict[str, Any] = MessageDocument._doc_type.mapping.to_dict()
    return told


def to_source(document: Document) -> dict[str, Any]:
    spoken, runs = _terms(document.body)
    return {
        "prefixes": " ".join(_beginnings(term[:PREFIX_LENGTH]) for term in spoken),
        "long_words": [term for term in spoken if len(term) > PREFIX_LENGTH],
        "runs": runs,
        "id": document.id,
        "version": document.version,
        "application_token": document.application_token,
        "chat_number": document.chat_number,
        "number": document.number,
        "body": document.body,
        "created_at": to_micros(document.created_at),
    }


def _terms(body: str) -> tuple[list[str], str]:
    """Those that are words, and the runs of CJK characters."""
    if body.isascii():
        return text.ascii_terms(body), ""
    words = list(text.words_and_gaps(body))
    spoken = [word.term for word in words if word and not word.cjk]
    runs = [word.term if word and word.cjk else GAP for word in words]
    return spoken, " ".join(runs) if len(spoken) < len(words) else ""


@lru_cache(maxsize=16_384)
def _beginnings(word: str) -> str:
    """Kept, since most words come again and again."""
    return " ".join(word[:length] for length in range(1, len(word) + 1))


def from_source(source: dict[str, Any]) -> Document:
    return Document(
        id=source["id"],
        version=source["version"],
        application_token=source["application_token"],
        chat_number=source["chat_number"],
        number=source["number"],
        body=source["body"],
        created_at=to_datetime(source["created_at"]),
    )
