"""Bodies that are not JSON, or not valid for the route: an exact 4xx, and no side effects."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.support.places import FIELD, Place, each_refuses, refused

#: FIELD stands for the name of the place's field.
MALFORMED = {
    "only a space": b" ",
    "half an object": b'{"FIELD": "te',
    "a word": b"text",
    "single quotes": b"{'FIELD': 'text'}",
    "a comma too many": b'{"FIELD": "text",}',
    "a comment": b'{"FIELD": "text"} // x',
    "garbage behind": b'{"FIELD": "text"} x',
    "two documents": b'{"FIELD": "text"}{"FIELD": "text"}',
    "a form": b"FIELD=text",
    "NaN": b'{"FIELD": "text", "x": NaN}',
    "Infinity": b'{"FIELD": "text", "x": Infinity}',
    "minus Infinity": b'{"FIELD": "text", "x": -Infinity}',
    "a hexadecimal number": b'{"FIELD": "text", "x": 0x10}',
    "an integer of 5,000 digits": b'{"FIELD": "text", "x": ' + b"9" * 5_000 + b"}",
    "the same name twice": b'{"FIELD": "one", "FIELD": "two"}',
    "an escaped name twice": b'{"FIELD": "one", "x": {"\\ud800": 1, "\\ud800": 2}}',
    "a NUL byte": b'{"FIELD": "a\0b"}',
    "a bare line end in a string": b'{"FIELD": "a\nb"}',
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"FIELD":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 levels, not closed": b"[" * 100_000,
    "100,000 levels in an ignored field": b'{"FIELD": "text", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "invalid UTF-8": b'{"FIELD": "\xff\xfe"}',
    "overlong UTF-8": b'{"FIELD": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"FIELD": "\xed\xa0\x80"}',
    "cut UTF-8": b'{"FIELD": "\xe2\x82"}',
    "latin-1": '{"FIELD": "é"}'.encode("latin-1"),
    "a byte order mark": b'\xef\xbb\xbf{"FIELD": "text"}',
    "UTF-16": '{"FIELD": "text"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"FIELD": "text"}'.encode("utf-16-le"),
    "UTF-32": '{"FIELD": "text"}'.encode("utf-32"),
    "gzip": gzip.compress(b'{"FIELD": "text"}'),
    "NUL bytes": bytes(100),
    "a bad escape": b'{"FIELD": "\\x41"}',
    "half an escape": b'{"FIELD": "\\u00"}',
}


def named(place: Place, content: bytes) -> bytes:
    return content.replace(b"FIELD", place.kind.field.encode())


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_json_is_refused(places: list[Place], content: bytes) -> None:
    for place in places:
        of_place = named(place, content)
        answer = refused(place, lambda place, of_place=of_place: place.send_raw(of_place), 400, "parse_error")
        # Clients must not see messages about the interpreter.
        assert "sys." not in answer["errors"][0]["detail"]


@pytest.mark.parametrize(
    "content",
    [b"null", b"true", b"false", b"7", b"1.5", b"1e400", b'"text"', b'""', b"9" * 4000],
    ids=lambda content: content.decode()[:8],
)
def test_a_body_that_is_a_value_is_refused(places: list[Place], content: bytes) -> None:
    each_refuses(places, lambda place: place.send_raw(content), 400, "invalid", "non_field_errors")


@pytest.mark.parametrize(
    "value",
    [b"null", b"true", b"7", b"1.5", b"1e400", b"-1e400", b"9" * 4000, b"[]", b"{}", b'["text"]', b'{"FIELD": "text"}'],
    ids=lambda value: value.decode()[:8],
)
def test_a_field_that_is_no_string_is_refused(places: list[Place], value: bytes) -> None:
    code = "null" if value == b"null" else "invalid"

    each_refuses(places, lambda place: place.send_raw(named(place, b'{"FIELD": %s}' % value)), 400, code, FIELD)


def test_a_field_of_900_levels_is_refused(place: Place) -> None:
    content = b'{"%s": %s1%s}' % (place.kind.field.encode(), b"[" * 900, b"]" * 900)

    response = place.send_raw(content)

    # Python's recursion limit decides which of the two errors is returned.
    assert response.status_code == 400
    code, attr = ("invalid", place.kind.field) if response.json()["errors"][0]["attr"] else ("parse_error", None)
    refused(place, lambda place: place.send_raw(content), 400, code, attr)


@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain", "application/x-www-form-urlencoded"])
def test_an_empty_body_lacks_the_field(places: list[Place], content_type: str) -> None:
    each_refuses(places, lambda place: place.send_raw(b"", content_type), 400, "required", FIELD)


def test_compressed_json_is_refused_though_it_says_so(place: Place) -> None:
    content = gzip.compress(json.dumps({place.kind.field: "text"}).encode())
    headers = {"Content-Encoding": "gzip"}

    refused(place, lambda place: place.send_raw(content, **headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "field", [b'"x": 1e400', b'"x": -0', b'"x": [[[[]]]]', b'"x": "\\ud800"', b'"\\ud800": 1', b'"": null']
)
def test_what_is_ignored_does_no_harm(places: list[Place], field: bytes) -> None:
    for place in places:
        response = place.send_raw(named(place, b'{"FIELD": "text", %s}' % field))

        assert response.status_code == 201
        assert place.read(response.json()) == response.json()


def test_a_large_body_of_nothing_is_refused_quickly(messages: Place) -> None:
    content = b"[" + b",".join([b"[]"] * 1_000_000) + b"]"

    refused(messages, lambda place: messages.send_raw(content), 400, "max_length", "non_field_errors")
