"""What every search backend does. A backend passes by inheriting `BackendContract` with a fixture `backend`.

Two tenants, `ours` and `theirs`, say everything there is to find; what is theirs must never show.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from chatsystem.writelog.arrival import to_datetime
from search import text
from search.backends.base import Hit, Hits, Scope, SearchBackend
from search.documents import Document

OURS, THEIRS = "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdee"
IN_OURS = Scope(OURS)
NOON = 1_800_000_000_000_000


class Bench:
    """Says things in two tenants at once, and finds them in ours."""

    def __init__(self, backend: SearchBackend) -> None:
        self.backend = backend
        self._ids = count(1)

    def say(self, *bodies: str, chat: int = 1, at: int | None = None) -> list[Document]:
        """Indexes the bodies as messages of both tenants; returns ours, each one microsecond newer than the last."""
        ours = []
        for body in bodies:
            for token in (THEIRS, OURS):
                id = next(self._ids)
                moment = NOON + id if at is None else at
                document = Document(id, moment, token, chat, id, body, to_datetime(moment))
                self.backend.index([document])
            ours.append(document)
        return ours

    def search(self, query: str, scope: Scope = IN_OURS, limit: int = 1000, **place: object) -> Hits:
        return self.backend.search(text.parse(query), scope, limit, **place)

    def find(self, query: str, scope: Scope = IN_OURS) -> list[str]:
        """The bodies found in ours, having made sure that nothing of theirs was counted or shown."""
        hits = self.search(query, scope)
        assert all(hit.document.application_token == OURS for hit in hits.page)
        assert hits.count == len(hits.page)
        assert not hits.more
        return [hit.document.body for hit in hits.page]


def ids(hits: list[Hit]) -> list[int]:
    return [hit.document.id for hit in hits]


class BackendContract:
    @pytest.fixture
    def bench(self, backend: SearchBackend) -> Bench:
        return Bench(backend)

    # What matches --------------------------------------------------------------------------------------------------

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
    def test_a_query_finds_a_body(self, bench: Bench, query: str, body: str) -> None:
        bench.say(body, "nothing of the sort")
        assert bench.find(query) == [body]

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
    def test_a_query_does_not_find_a_body(self, bench: Bench, query: str, body: str) -> None:
        bench.say(body)
        assert bench.find(query) == []

    @pytest.mark.parametrize(
        "query", ["", " ", "%", "_", "*", "%_*", '"', "''", "{}[]():*", "\x00", "🎉", "\n/", "❤\ufe0f", "\u0301"]
    )
    def test_a_query_without_a_word_finds_nothing(self, bench: Bench, query: str) -> None:
        bench.say("some words", query or "empty")
        assert bench.find(query) == []

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
    def test_punctuation_is_no_syntax(self, bench: Bench, query: str) -> None:
        bench.say("ping", "pong")
        assert bench.find(query) == ["ping"]

    @pytest.mark.parametrize("word", ["AND", "OR", "NOT", "NEAR", "terms", "scope", "NULL", "TO"])
    def test_words_of_query_languages_are_words(self, bench: Bench, word: str) -> None:
        body = f"this {word} that"
        bench.say(body, "this that")
        assert bench.find(f"this {word} that") == [body]
        assert bench.find(word) == [body]
        assert bench.find(f"{word}:that") == [body]
        assert bench.find(f"this {word}(that, 3)") == []

    @pytest.mark.parametrize(
        "piece", ["ping ", "ping", "你好", "你", "'", '"', "(", "ping AND ", "e\u0301", "\x00", "🎉"]
    )
    def test_a_query_of_ten_thousand_characters_is_answered(self, bench: Bench, piece: str) -> None:
        bench.say("ping", "你好")
        bench.find((piece * 10_000)[:10_000])

    def test_a_query_of_many_words_finds_the_text_it_was_taken_from(self, bench: Bench) -> None:
        long = " ".join(f"word{number}" for number in range(2_000))
        bench.say(long, "word1 word2")
        assert bench.find(long) == [long]

    def test_a_word_of_sixteen_thousand_characters_is_found(self, bench: Bench) -> None:
        long = "𐌰" * 16_000
        bench.say(long, "𐌰𐌰")
        assert bench.find(long) == [long]
        assert sorted(bench.find("𐌰𐌰")) == sorted([long, "𐌰𐌰"])

    def test_a_scope_is_not_a_word(self, bench: Bench) -> None:
        bench.say("nothing")
        for query in (OURS, THEIRS, f"/{OURS}", f"{OURS}/1", OURS[:4]):
            assert bench.find(query) == []

    # Tenancy -------------------------------------------------------------------------------------------------------

    def test_a_chat_narrows_the_application(self, bench: Bench) -> None:
        bench.say("hello one", chat=1)
        bench.say("hello twelve", chat=12)
        assert bench.find("hello", Scope(OURS, 1)) == ["hello one"]
        assert bench.find("hello", Scope(OURS, 12)) == ["hello twelve"]
        assert bench.find("hello", Scope(OURS, 2)) == []

    def test_without_a_scope_everybody_is_searched(self, bench: Bench) -> None:
        bench.say("hello")
        hits = bench.search("hello", Scope())
        assert hits.count == 2
        assert {hit.document.application_token for hit in hits.page} == {OURS, THEIRS}

    def test_a_hit_is_the_whole_document(self, bench: Bench) -> None:
        (document,) = bench.say("Whole <b>and</b> exact \u00e9 e\u0301 🎉\n")
        assert bench.search("whole").page[0].document == document

    # Order and pages -----------------------------------------------------------------------------------------------

    def test_the_better_hit_comes_first(self, bench: Bench) -> None:
        bench.say("cat", "the cat sat with many others on a long and winding mat", "a dog")
        assert bench.find("cat")[0] == "cat"

    def test_newest_first_among_equals(self, bench: Bench) -> None:
        old, new = bench.say("same", at=NOON + 9)[0], bench.say("same", at=NOON + 10)[0]
        older = bench.say("same", at=NOON + 8)[0]
        twin = bench.say("same", at=NOON + 8)[0]
        assert ids(bench.search("same").page) == [new.id, old.id, twin.id, older.id]

    def test_pages_walk_both_ways_over_all_hits(self, bench: Bench) -> None:
        bench.say(*["same words"] * 7, *["same words and others"] * 7, "same")
        everything = ids(bench.search("same").page)
        assert len(everything) == 15
        pages = [bench.search("same", limit=4)]
        while pages[-1].more:
            pages.append(bench.search("same", limit=4, after=pages[-1].page[-1].place))
        assert [len(page.page) for page in pages] == [4, 4, 4, 3]
        assert [id for page in pages for id in ids(page.page)] == everything
        assert {page.count for page in pages} == {15}

        backwards = [bench.search("same", limit=4, before=pages[-1].page[0].place)]
        while backwards[-1].more:
            backwards.append(bench.search("same", limit=4, before=backwards[-1].page[0].place))
        assert [id for page in reversed(backwards) for id in ids(page.page)] == everything[:12]

    def test_pages_stay_in_step_while_documents_arrive(self, bench: Bench) -> None:
        bench.say(*["same words"] * 6)
        everything = ids(bench.search("same").page)
        first = bench.search("same", limit=3)
        # They change how rare the word is and how long the average body, and with it every score.
        bench.say(*["other things altogether, at some length"] * 5, "same words", *["same"] * 3)
        second = bench.search("same", limit=3, after=first.page[-1].place)
        assert ids(first.page) + ids(second.page) == everything

    def test_a_page_goes_on_where_the_hit_before_it_was_changed(self, bench: Bench) -> None:
        bench.say(*["same words"] * 6)
        everything = ids(bench.search("same").page)
        first = bench.search("same", limit=3)
        last = first.page[-1].document
        bench.backend.index([replace(last, version=last.version + 1, body="gone")])
        second = bench.search("same", limit=3, after=first.page[-1].place)
        # One hit fewer before it: the number of hits is the best guess left, and skips at most what is gone.
        assert ids(second.page) == everything[4:]
        back = bench.search("same", limit=3, before=first.page[-1].place)
        assert ids(back.page) == everything[:2]

    # Keeping the index ---------------------------------------------------------------------------------------------

    def test_an_update_replaces_the_old_text(self, bench: Bench) -> None:
        (document,) = bench.say("before")
        bench.backend.index([replace(document, version=document.version + 1, body="after")])
        assert bench.find("before") == []
        assert bench.find("after") == ["after"]

    def test_an_older_version_never_replaces_a_newer_one(self, bench: Bench) -> None:
        (document,) = bench.say("newer")
        bench.backend.index([replace(document, version=document.version - 1, body="older")])
        assert bench.find("older") == []
        assert bench.find("newer") == ["newer"]

    def test_an_equal_version_replaces(self, bench: Bench) -> None:
        (document,) = bench.say("damaged")
        bench.backend.index([replace(document, body="repaired")])
        assert bench.find("damaged") == []
        assert bench.find("repaired") == ["repaired"]

    def test_of_two_versions_in_one_call_the_newer_one_stays(self, bench: Bench) -> None:
        (document,) = bench.say("first")
        newer = replace(document, version=document.version + 2, body="third")
        older = replace(document, version=document.version + 1, body="second")
        bench.backend.index([newer, older])
        assert bench.find("third") == ["third"]
        assert bench.find("second") == []

    def test_indexing_again_changes_nothing(self, bench: Bench) -> None:
        documents = bench.say("one", "two")
        before = bench.search("one")
        bench.backend.index(documents)
        bench.backend.index(documents)
        assert bench.search("one") == before

    def test_only_the_named_version_is_removed(self, bench: Bench) -> None:
        one, two = bench.say("one", "two")
        bench.backend.remove({one.id: one.version, two.id: two.version - 1, 999: 1})
        assert bench.find("one") == []
        assert bench.find("two") == ["two"]

    def test_it_tells_what_it_holds(self, bench: Bench) -> None:
        assert bench.backend.last_id() == 0
        documents = bench.say("one", "two", "three")
        last = documents[-1].id
        assert bench.backend.last_id() == last
        assert bench.backend.count(last) == 6
        assert bench.backend.count(last - 1) == 5
        held = bench.backend.documents(documents[0].id, last)
        assert sorted(held) == list(range(documents[0].id + 1, last + 1))
        assert held[last] == documents[-1]

    def test_its_state_tells_whether_it_was_ever_filled_and_with_how_much(self, bench: Bench) -> None:
        assert not bench.backend.state().documents
        documents = bench.say("one", "two")
        with bench.backend.rebuild() as target:
            target.index(documents)
        state = bench.backend.state()
        assert state.name
        assert state.complete
        assert state.building is None
        assert state.documents >= 2

    def test_an_empty_index_answers(self, bench: Bench) -> None:
        bench.backend.ping()
        assert bench.find("anything") == []

    def test_a_rebuild_fills_the_index(self, bench: Bench) -> None:
        documents = bench.say("hello")
        with bench.backend.rebuild() as target:
            target.index(documents)
            assert target.count(documents[-1].id) >= 1
        assert bench.find("hello") == ["hello"]
