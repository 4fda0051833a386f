"""The tests that every search backend must pass: a subclass of `BackendContract` provides the fixture `backend`.

Two tenants, `ours` and `theirs`, post the same messages. A search in ours must never return one of theirs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from chatsystem.writelog.events import to_datetime
from search.backends.base import Hit, Hits, Scope, SearchBackend
from search.documents import Document
from search.tokenizer import parse

OURS, THEIRS = "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdee"
IN_OURS = Scope(OURS)
NOON = 1_800_000_000_000_000


class TwoTenants:
    """Indexes messages for two tenants at once, and searches in ours."""

    def __init__(self, backend: SearchBackend) -> None:
        self.backend = backend
        self._ids = count(1)

    def say(self, *bodies: str, chat: int = 1, at: int | None = None) -> list[Document]:
        """Indexes the bodies as messages of both tenants, each one microsecond newer. Returns ours."""
        ours = []
        for body in bodies:
            for token in (THEIRS, OURS):
                id = next(self._ids)
                moment = NOON + id if at is None else at
                document = Document(id, moment, token, chat, id, body, to_datetime(moment))
                self.backend.index([document])
            ours.append(document)
        return ours

    def search(self, query: str, scope: Scope = IN_OURS, limit: int = 1000, **position: object) -> Hits:
        return self.backend.search(parse(query), scope, limit, **position)

    def find(self, query: str, scope: Scope = IN_OURS) -> list[str]:
        """Returns the bodies found in ours. Asserts that no message of theirs is counted or returned."""
        hits = self.search(query, scope)
        assert all(hit.document.application_token == OURS for hit in hits.page)
        assert hits.count == len(hits.page)
        assert not hits.more
        return [hit.document.body for hit in hits.page]


def ids(hits: list[Hit]) -> list[int]:
    return [hit.document.id for hit in hits]


class BackendContract:
    @pytest.fixture
    def tenants(self, backend: SearchBackend) -> TwoTenants:
        return TwoTenants(backend)

    # Matching ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("query", "body"),
        [
            ("welco", "Welcome home"),
            ("home wel", "Welcome home"),
            ("WELCOME", "welcome"),
            ("elan", "Élan"),
            ("élan", "ELAN"),
            ("e\u0301lan", "\u00c9lan"),
            ("\u00c9lan", "e\u0301lan"),
            ("strasse", "Straße"),
            ("STRAẞE", "strasse"),
            ("isik", "ışık"),
            ("ışık", "ISIK"),
            ("istanbul", "İstanbul"),
            ("lodz", "Łódź"),
            ("oresund", "Øresund"),
            ("aether", "Æther"),
            ("مرح", "مرحبا بالعالم"),
            ("مرحبا", "مَرْحَبًا"),
            ("हिन्", "हिन्दी में"),
            ("привет", "Привет!"),
            ("한국", "한국어"),
            ("世界", "你好世界"),
            ("好世", "你好世界"),
            ("カタ", "ｶﾀｶﾅ"),
            ("ｶﾞｷﾞ", "ガギ"),
            ("ひらがな", "これはひらがなです"),
            ("パーティー", "今日のパーティーは"),
            ("手机", "iPhone手机"),
            ("iph", "iPhone手机"),
            ("iPhone手机", "my iPhone手机!"),
            ("手机 iph", "iPhone手机"),
            ("日々", "日々是好日"),
            ("葛", "葛\U000e0100飾区"),
            ("don't", "I don't know"),
            ("know don", "I don't know"),
            ("snake", "a snake_case_name"),
            ("case_na", "a snake_case_name"),
            ("fi", "ﬁnd"),
            ("2026", "in 2026"),
            ("🎉 party", "party 🎉🎉"),
            ("a b c", "c b a"),
        ],
    )
    def test_a_query_finds_a_body(self, tenants: TwoTenants, query: str, body: str) -> None:
        tenants.say(body, "nothing of the sort")
        assert tenants.find(query) == [body]

    @pytest.mark.parametrize(
        ("query", "body"),
        [
            ("elcome", "Welcome home"),
            ("home away", "Welcome home"),
            ("welcomes", "Welcome home"),
            ("世好", "你好世界"),
            ("好界", "你好世界"),
            ("好世", "你好 世界"),
            ("好世", "你好，世界"),
            ("好世", "你好x世界"),
            ("か", "が"),
            ("ไม", "ไทย"),
            ("phone", "iPhone手机"),
            ("100%", "10 percent"),
            ("a_b", "axb"),
            ("wel*me", "welcome"),
            ("w%", "%"),
        ],
    )
    def test_a_query_does_not_find_a_body(self, tenants: TwoTenants, query: str, body: str) -> None:
        tenants.say(body)
        assert tenants.find(query) == []

    @pytest.mark.parametrize(
        "query", ["", " ", "%", "_", "*", "%_*", '"', "''", "{}[]():*", "\x00", "🎉", "\n/", "❤\ufe0f", "\u0301"]
    )
    def test_a_query_without_a_word_finds_nothing(self, tenants: TwoTenants, query: str) -> None:
        tenants.say("some words", query or "empty")
        assert tenants.find(query) == []

    @pytest.mark.parametrize(
        "query",
        [
            '{ping} [ping] (ping): "ping* ping"',
            'ping"',
            '"ping',
            "ping)",
            "(ping",
            "-ping",
            "+ping^~",
            "ping\\",
            "ping\x00",
            "\x00ping",
            "pi\x00",
            "pi*",
            "*ping*",
            "%ping%",
            "_ping_",
            "ping/../ping",
            "ping\nping",
            "ping;--",
            "ping ping ping",
        ],
    )
    def test_punctuation_is_no_syntax(self, tenants: TwoTenants, query: str) -> None:
        tenants.say("ping", "pong")
        assert tenants.find(query) == ["ping"]

    @pytest.mark.parametrize("word", ["AND", "OR", "NOT", "NEAR", "terms", "scope", "NULL", "TO"])
    def test_words_of_query_languages_are_words(self, tenants: TwoTenants, word: str) -> None:
        body = f"this {word} that"
        tenants.say(body, "this that")
        assert tenants.find(f"this {word} that") == [body]
        assert tenants.find(word) == [body]
        assert tenants.find(f"{word}:that") == [body]
        assert tenants.find(f"this {word}(that, 3)") == []

    @pytest.mark.parametrize(
        "piece", ["ping ", "ping", "你好", "你", "'", '"', "(", "ping AND ", "e\u0301", "\x00", "🎉"]
    )
    def test_a_query_of_ten_thousand_characters_is_answered(self, tenants: TwoTenants, piece: str) -> None:
        tenants.say("ping", "你好")
        tenants.find((piece * 10_000)[:10_000])

    def test_a_query_of_many_words_finds_the_text_it_was_taken_from(self, tenants: TwoTenants) -> None:
        long = " ".join(f"word{number}" for number in range(2_000))
        tenants.say(long, "word1 word2")
        assert tenants.find(long) == [long]

    def test_a_word_of_sixteen_thousand_characters_is_found(self, tenants: TwoTenants) -> None:
        long = "𐌰" * 16_000
        tenants.say(long, "𐌰𐌰")
        assert tenants.find(long) == [long]
        assert sorted(tenants.find("𐌰𐌰")) == sorted([long, "𐌰𐌰"])

    def test_a_scope_is_not_a_word(self, tenants: TwoTenants) -> None:
        tenants.say("nothing")
        for query in (OURS, THEIRS, f"/{OURS}", f"{OURS}/1", OURS[:4]):
            assert tenants.find(query) == []

    # Tenancy -------------------------------------------------------------------------------------------------------

    def test_a_chat_narrows_the_application(self, tenants: TwoTenants) -> None:
        tenants.say("hello one", chat=1)
        tenants.say("hello twelve", chat=12)
        assert tenants.find("hello", Scope(OURS, 1)) == ["hello one"]
        assert tenants.find("hello", Scope(OURS, 12)) == ["hello twelve"]
        assert tenants.find("hello", Scope(OURS, 2)) == []

    def test_without_a_scope_everybody_is_searched(self, tenants: TwoTenants) -> None:
        tenants.say("hello")
        hits = tenants.search("hello", Scope())
        assert hits.count == 2
        assert {hit.document.application_token for hit in hits.page} == {OURS, THEIRS}

    def test_a_hit_is_the_whole_document(self, tenants: TwoTenants) -> None:
        (document,) = tenants.say("Whole <b>and</b> exact \u00e9 e\u0301 🎉\n")
        assert tenants.search("whole").page[0].document == document

    # Order and pages -----------------------------------------------------------------------------------------------

    def test_the_better_hit_comes_first(self, tenants: TwoTenants) -> None:
        tenants.say("cat", "the cat sat with many others on a long and winding mat", "a dog")
        assert tenants.find("cat")[0] == "cat"

    def test_newest_first_among_equals(self, tenants: TwoTenants) -> None:
        old, new = tenants.say("same", at=NOON + 9)[0], tenants.say("same", at=NOON + 10)[0]
        older = tenants.say("same", at=NOON + 8)[0]
        twin = tenants.say("same", at=NOON + 8)[0]
        assert ids(tenants.search("same").page) == [new.id, old.id, twin.id, older.id]

    def test_pages_walk_both_ways_over_all_hits(self, tenants: TwoTenants) -> None:
        tenants.say(*["same words"] * 7, *["same words and others"] * 7, "same")
        everything = ids(tenants.search("same").page)
        assert len(everything) == 15
        pages = [tenants.search("same", limit=4)]
        while pages[-1].more:
            pages.append(tenants.search("same", limit=4, after=pages[-1].page[-1].position))
        assert [len(page.page) for page in pages] == [4, 4, 4, 3]
        assert [id for page in pages for id in ids(page.page)] == everything
        assert {page.count for page in pages} == {15}

        backwards = [tenants.search("same", limit=4, before=pages[-1].page[0].position)]
        while backwards[-1].more:
            backwards.append(tenants.search("same", limit=4, before=backwards[-1].page[0].position))
        assert [id for page in reversed(backwards) for id in ids(page.page)] == everything[:12]

    def test_pages_stay_in_step_while_documents_arrive(self, tenants: TwoTenants) -> None:
        tenants.say(*["same words"] * 6)
        everything = ids(tenants.search("same").page)
        first = tenants.search("same", limit=3)
        # These change the word's frequency and the average length, and with them every score.
        tenants.say(*["other things altogether, at some length"] * 5, "same words", *["same"] * 3)
        second = tenants.search("same", limit=3, after=first.page[-1].position)
        assert ids(first.page) + ids(second.page) == everything

    def test_a_page_goes_on_where_the_hit_before_it_was_changed(self, tenants: TwoTenants) -> None:
        tenants.say(*["same words"] * 6)
        everything = ids(tenants.search("same").page)
        first = tenants.search("same", limit=3)
        last = first.page[-1].document
        tenants.backend.index([replace(last, version=last.version + 1, body="gone")])
        second = tenants.search("same", limit=3, after=first.page[-1].position)
        # The position's number is used. There is one hit fewer before it now, so the page skips one hit.
        assert ids(second.page) == everything[4:]
        back = tenants.search("same", limit=3, before=first.page[-1].position)
        assert ids(back.page) == everything[:2]

    # Index maintenance ---------------------------------------------------------------------------------------------

    def test_an_update_replaces_the_old_text(self, tenants: TwoTenants) -> None:
        (document,) = tenants.say("before")
        tenants.backend.index([replace(document, version=document.version + 1, body="after")])
        assert tenants.find("before") == []
        assert tenants.find("after") == ["after"]

    def test_an_older_version_never_replaces_a_newer_one(self, tenants: TwoTenants) -> None:
        (document,) = tenants.say("newer")
        tenants.backend.index([replace(document, version=document.version - 1, body="older")])
        assert tenants.find("older") == []
        assert tenants.find("newer") == ["newer"]

    def test_an_equal_version_replaces(self, tenants: TwoTenants) -> None:
        (document,) = tenants.say("damaged")
        tenants.backend.index([replace(document, body="repaired")])
        assert tenants.find("damaged") == []
        assert tenants.find("repaired") == ["repaired"]

    def test_of_two_versions_in_one_call_the_newer_one_stays(self, tenants: TwoTenants) -> None:
        (document,) = tenants.say("first")
        newer = replace(document, version=document.version + 2, body="third")
        older = replace(document, version=document.version + 1, body="second")
        tenants.backend.index([newer, older])
        assert tenants.find("third") == ["third"]
        assert tenants.find("second") == []

    def test_indexing_again_changes_nothing(self, tenants: TwoTenants) -> None:
        documents = tenants.say("one", "two")
        before = tenants.search("one")
        tenants.backend.index(documents)
        tenants.backend.index(documents)
        assert tenants.search("one") == before

    def test_only_the_named_version_is_removed(self, tenants: TwoTenants) -> None:
        one, two = tenants.say("one", "two")
        tenants.backend.remove({one.id: one.version, two.id: two.version - 1, 999: 1})
        assert tenants.find("one") == []
        assert tenants.find("two") == ["two"]

    def test_it_tells_what_it_holds(self, tenants: TwoTenants) -> None:
        assert tenants.backend.last_id() == 0
        documents = tenants.say("one", "two", "three")
        last = documents[-1].id
        assert tenants.backend.last_id() == last
        assert tenants.backend.count(last) == 6
        assert tenants.backend.count(last - 1) == 5
        held = tenants.backend.documents(documents[0].id, last)
        assert sorted(held) == list(range(documents[0].id + 1, last + 1))
        assert held[last] == documents[-1]

    def test_its_state_tells_whether_it_was_ever_filled_and_with_how_much(self, tenants: TwoTenants) -> None:
        assert not tenants.backend.state().documents
        documents = tenants.say("one", "two")
        with tenants.backend.rebuild() as target:
            target.index(documents)
        state = tenants.backend.state()
        assert state.name
        assert state.complete
        assert state.building is None
        assert state.documents >= 2

    def test_an_empty_index_answers(self, tenants: TwoTenants) -> None:
        tenants.backend.ping()
        assert tenants.find("anything") == []

    def test_a_rebuild_fills_the_index(self, tenants: TwoTenants) -> None:
        documents = tenants.say("hello")
        with tenants.backend.rebuild() as target:
            target.index(documents)
            assert target.count(documents[-1].id) >= 1
        assert tenants.find("hello") == ["hello"]
