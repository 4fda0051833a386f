"""The tables of the index, and how a message becomes a row. Documented in docs/search.md."""

from __future__ import annotations

from bisect import bisect_left

from search.tokenizer import terms

#: Changes with the schema and with the terms that search.tokenizer makes. An index of another version is not searched.
SCHEMA_VERSION = 3

#: The lengths of word prefixes for which `words` has a list of messages. A longer prefix is collected from the lists of
#: all words that begin with it, for each search.
PREFIX_LENGTHS = range(1, 21)

#: Messages are grouped into length buckets. These are the highest word counts of the buckets; the last bucket has no
#: limit. A shorter message is a better hit, because the query is a larger part of it. Hits of one bucket rank equally.
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32, 50, 100, 300)

#: The bits of a rowid of `words`: a length bucket, then an application, then a message id. In each of FTS5's lists, the
#: hits of a bucket are therefore contiguous, in one application or in all, and a search reads no others to find them.
APPLICATION_BITS, ID_BITS = 23, 36
MAX_APPLICATION, MAX_ID = (1 << APPLICATION_BITS) - 1, (1 << ID_BITS) - 1

#: FTS5's memory for the terms of a transaction. Large enough for a batch, so that each batch is one segment.
HASH_BYTES = 4_000_000
#: The number of segments of one level that FTS5 merges. With more than the default of 4, each term is written less
#: often. Searches do not become measurably slower.
MERGED_AT_ONCE = 8

# `words` finds messages and `documents` holds them. With the index `moments` a sort by time reads about 20 bytes for
# each hit instead of the whole message.
#
# `words` stores no text: before a document is deleted, its terms are computed again from its body. The tokenizer splits
# only at characters that are never part of a term. The slash makes the chat a term that no word of a query matches.
SCHEMA = f"""
    CREATE VIRTUAL TABLE words USING fts5 (
        terms, content = '', columnsize = 0, tokenize = "ascii tokenchars '/'",
        prefix = '{" ".join(map(str, PREFIX_LENGTHS))}'
    );
    INSERT INTO words (words, rank) VALUES ('hashsize', {HASH_BYTES}), ('automerge', {MERGED_AT_ONCE});
    CREATE TABLE applications (
        id INTEGER PRIMARY KEY CHECK (id < {1 << APPLICATION_BITS}),
        token TEXT NOT NULL UNIQUE
    );
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY CHECK (id < {1 << ID_BITS}),
        version INTEGER NOT NULL,
        application INTEGER NOT NULL,
        chat_number INTEGER NOT NULL,
        number INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX moments ON documents (id, created_at);
    PRAGMA user_version = {SCHEMA_VERSION};
"""

#: The file's application_id once a rebuild has filled it.
COMPLETE = int.from_bytes(b"chat", "big")

#: Separates CJK runs that are not adjacent. Not a letter, so no query contains it.
GAP = "·"


def entry(chat_number: int, body: str) -> tuple[int, str]:
    """Returns the length bucket and the terms of a message."""
    found = terms(body)
    return bisect_left(LENGTHS, len(found)), " ".join([chat_term(chat_number), *(term or GAP for term in found)])


def chat_term(number: int) -> str:
    return f"/{number}"


def rowid(bucket: int, application: int, id: int) -> int:
    """Returns the rowid of a message in `words`."""
    return (bucket << APPLICATION_BITS | application) << ID_BITS | id
