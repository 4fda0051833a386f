"""The description is complete and correct."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from jsonschema import Draft202012Validator

from chatsystem import __version__
from chatsystem.api.openapi import views
from tests.support.harness import Tenant, in_threads
from tests.support.product import BASE_DIR

#: For logged-in people, and for people who try the product. Not part of the API.
NOT_DESCRIBED = ("/admin", "/demo")
#: Rows of the table of errors. "with" precedes the value of `attr`.
ERRORS = re.compile(r"^\| (?P<statuses>[\d, ]+) \| (?P<codes>`.*?`)(?: with .*?)? \|", re.MULTILINE)


def routes(resolver: URLResolver, before: str = "/") -> Iterator[tuple[str, str]]:
    """Yields method and path of each route, with and without a trailing slash."""
    for entry in resolver.url_patterns:
        path = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry, path)
        elif not path.startswith(NOT_DESCRIBED):
            for method in methods(entry):
                yield method, re.sub(r"<\w+:(\w+)>", r"{\1}", path)


def methods(pattern: URLPattern) -> set[str]:
    view = pattern.callback
    names = (
        view.actions
        if hasattr(view, "actions")
        else [name for name in ("get", "post", "patch", "put", "delete") if hasattr(view.cls, name)]
    )
    return set(names) - {"head", "options"}


def walk(node: Any, place: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each object in the description, with its place."""
    if isinstance(node, dict):
        yield place, node
    for name, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from walk(child, f"{place}/{name}")


def operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): said for path, item in description["paths"].items() for method, said in item.items()}


def test_it_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    # Raises if the description is invalid.
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "openapi.yaml"))

    assert (tmp_path / "openapi.yaml").stat().st_size


def test_every_route_is_described_and_every_description_has_a_route(description: dict[str, Any]) -> None:
    there = {(method, path.rstrip("/") if path != "/" else path) for method, path in routes(get_resolver())}

    assert set(operations(description)) == there


def test_every_example_is_what_its_schema_says(description: dict[str, Any]) -> None:
    found = 0
    for place, node in walk(description):
        if "schema" not in node:
            continue
        examples = [example["value"] for example in node.get("examples", {}).values()]
        examples += [node["example"]] if "example" in node else []
        validator = Draft202012Validator({**node["schema"], "components": description["components"]})
        for example in examples:
            wrong = [error.message for error in validator.iter_errors(example)]
            assert not wrong, (place, example, wrong)
            found += 1

    assert found > 100


def test_every_request_and_every_answer_with_a_body_has_an_example(description: dict[str, Any]) -> None:
    without = [
        place
        for place, node in walk(description)
        for media_type in node.get("content", {}).values()
        if not media_type.get("examples")
    ]

    # The pages, and the description itself.
    places = [
        "#/paths///get/responses/200",
        "#/paths//docs/get/responses/200",
        "#/paths//openapi.json/get/responses/200",
    ]
    assert without == places


def test_it_says_which_lists_a_stream_continues(ours: Tenant, description: dict[str, Any]) -> None:
    ours.chat()
    seen = set()
    for path in ("/applications", ours.path, f"{ours.path}/chats", f"{ours.path}/chats/1/messages"):
        first = ours.api.get(path)
        again = ours.api.get(path, headers={"If-None-Match": first["ETag"]})
        assert (first.status_code, again.status_code) == (200, 304)
        described = path.replace(ours.token, "{token}").replace("/1/", "/{chat_number}/")
        seen |= {(described, str(answer.status_code)) for answer in (first, again) if "Stream-Position" in answer}

    said = {
        (path, status)
        for (_, path), operation in operations(description).items()
        for status, answer in operation["responses"].items()
        if answer.get("headers", {}).get("Stream-Position", {}).get("required")
    }
    assert said == seen
    assert len(said) == 4


def test_it_bears_the_version_of_the_project(description: dict[str, Any]) -> None:
    assert description["info"]["version"] == __version__


def told(description: dict[str, Any]) -> set[tuple[str, str]]:
    """Returns status and code of every error of every operation."""
    found = set()
    for operation in operations(description).values():
        for status, answer in operation["responses"].items():
            if "$ref" in answer:
                answer = description["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values():
                if status >= "400" and "errors" in example["value"]:
                    found |= {(status, error["code"]) for error in example["value"]["errors"]}
    return found


def test_the_errors_are_those_of_the_documentation(description: dict[str, Any]) -> None:
    documented = {
        (status, code)
        for row in ERRORS.finditer((BASE_DIR / "docs/api.md").read_text())
        for status, code in pairs(row["statuses"].split(", "), re.findall(r"`([a-z_]+)`", row["codes"]))
    }

    assert told(description) == documented


def pairs(statuses: list[str], codes: list[str]) -> list[tuple[str, str]]:
    """Returns the pairs of a row, which has one status with its codes, or several statuses with one code each."""
    if len(statuses) == 1:
        return [(statuses[0], code) for code in codes]
    return list(zip(statuses, codes, strict=True))


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.json/"])
@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/vnd.oai.openapi+json"])
def test_it_is_served_as_json_whatever_is_accepted(client: Client, path: str, accept: str) -> None:
    answer = client.get(path, headers={"Accept": accept})

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["openapi"] == "3.1.0"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    # Otherwise its ETag would differ between processes.
    for seed in ("1", "2"):
        command = [sys.executable, "manage.py", "spectacular", "--file", str(tmp_path / seed)]
        subprocess.run(command, cwd=BASE_DIR, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_it_is_the_same_for_all_who_ask_first_at_once() -> None:
    views.as_json.cache_clear()
    found: dict[int, bytes] = {}

    in_threads(lambda client: found.update({client: views.as_json()}), range(8))

    assert len({json.dumps(json.loads(content)) for content in found.values()}) == 1
