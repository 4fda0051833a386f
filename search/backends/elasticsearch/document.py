"""The mapping, and how a message becomes a document of the cluster. Documented in docs/search.md."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django_elasticsearch_dsl import Document as DslDocument
from django_elasticsearch_dsl import fields
from elasticsearch.dsl import MetaField

from chatsystem.writelog.events import to_datetime, to_micros
from search.documents import Document
from search.tokenizer import Word, ascii_terms, tokens

#: Changes with the mapping and with the terms that search.tokenizer makes. It is part of the index's name, so an index
#: of another version is neither searched nor written.
SCHEMA_VERSION = 2

#: The length up to which each prefix of a word is a term. Longer prefixes are searched for in `long_words`.
PREFIX_LENGTH = 20

#: Separates CJK characters that are not adjacent. Not a letter, so no query contains it.
GAP = "·"


class MessageDocument(DslDocument):
    """The mapping. Its terms come from search.tokenizer, separated by spaces, so that no analysis plugin is needed.

    django-elasticsearch-dsl is not in INSTALLED_APPS, because its signals would index during the request. Messages are
    indexed from the outbox instead.
    """

    #: The prefixes of every word, so that "begins with" is a query for one term, with the score of a term.
    prefixes = fields.TextField(analyzer="whitespace", index_options="freqs")
    long_words = fields.KeywordField(doc_values=False)
    #: The CJK characters, each a term, for phrases.
    runs = fields.TextField(analyzer="whitespace")

    id = fields.LongField()
    version = fields.LongField(index=False, doc_values=False)
    application_token = fields.KeywordField(doc_values=False)
    #: A keyword, because it is only tested for equality.
    chat_number = fields.KeywordField(doc_values=False)
    number = fields.LongField(index=False, doc_values=False)
    body = fields.KeywordField(index=False, doc_values=False)
    #: Microseconds since 1970. The cluster's dates have only milliseconds.
    created_at = fields.LongField(index=False)

    class Meta:
        dynamic = MetaField("strict")
        # The terms can be computed from the body. Stored, they would be most of the index.
        source = MetaField(excludes=["prefixes", "long_words", "runs"])


def mapping() -> dict[str, Any]:
    found: dict[str, Any] = MessageDocument._doc_type.mapping.to_dict()
    return found


def to_source(document: Document) -> dict[str, Any]:
    words, runs = _terms(document.body)
    return {
        "prefixes": " ".join(_prefixes(word[:PREFIX_LENGTH]) for word in words),
        "long_words": [word for word in words if len(word) > PREFIX_LENGTH],
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
    """Returns the words, and the CJK terms with their gaps."""
    if body.isascii():
        return ascii_terms(body), ""
    words: list[str] = []
    runs: list[str] = []
    has_runs = False
    for token in tokens(body):
        if token and token.cjk:
            has_runs = True
            runs += token.terms
            continue
        runs.append(GAP)
        if isinstance(token, Word):
            words.append(token.term)
    return words, " ".join(runs) if has_runs else ""


@lru_cache(maxsize=16_384)
def _prefixes(word: str) -> str:
    """Returns the word's prefixes. Cached, because most words occur again and again."""
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
