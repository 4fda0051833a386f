"""A client generated from the description replays a chat, so the description matches the product."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from tests.support.product import Product, eventually

GENERATOR = Path(sys.executable).with_name("openapi-python-client")
PACKAGE = "generated_chat_client"

LOG = [
    ("Support", ["Hello, Élan!", "你好世界", " kept to the byte \n", "😀"]),
    ("Plans", ["Shall we meet at noon?", "Yes."]),
]


class Client:
    """The generated package. It calls operations by name: `client.ask("get_chat", token, 1)`."""

    def __init__(self, url: str) -> None:
        self.models: Any = importlib.import_module(f"{PACKAGE}.models")
        # An undescribed status raises.
        self.client = importlib.import_module(PACKAGE).Client(url, raise_on_unexpected_status=True)
        self.operations: dict[str, ModuleType] = {}
        folder = Path(importlib.import_module(f"{PACKAGE}.api").__path__[0])
        for file in folder.glob("*/[!_]*.py"):
            self.operations[file.stem] = importlib.import_module(f"{PACKAGE}.api.{file.parent.name}.{file.stem}")

    def ask(self, operation: str, *path: Any, **rest: Any) -> Any:
        """Returns the whole response: status, headers, and `parsed`."""
        return self.operations[operation].sync_detailed(*path, client=self.client, **rest)

    def get(self, operation: str, *path: Any, **rest: Any) -> Any:
        answer = self.ask(operation, *path, **rest)
        assert answer.status_code in (200, 201), answer.content
        return answer.parsed


@pytest.fixture(scope="module")
def client(product: Product, description: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(description))
    # Do not format the generated code.
    (folder / "config.yml").write_text("post_hooks: []")
    command = [GENERATOR, "generate", "--fail-on-warning", "--meta", "none", "--config", "config.yml"]
    subprocess.run([*command, "--path", "openapi.json", "--output-path", PACKAGE], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        yield Client(product.url)


@pytest.fixture(scope="module")
def token(client: Client) -> str:
    """The token of an application with the log: each chat's first message was posted alone, the rest as a batch."""
    models = client.models
    found: str = client.get("create_application", body=models.ApplicationRequest("replayed")).token
    for title, bodies in LOG:
        chat = client.get("create_chat", found, body=models.ChatRequest(title))
        first, *rest = [models.MessageRequest(body) for body in bodies]
        one = client.get("create_message", found, chat.number, body=first)
        batch = client.get("create_message", found, chat.number, body=rest)
        assert [one.number, *(message.number for message in batch)] == list(range(1, len(bodies) + 1))
    return found


def test_what_was_replayed_is_read_back_in_pages_and_one_by_one(client: Client, token: str) -> None:
    assert [chat.title for chat in client.get("list_chats", token).results] == [title for title, _ in LOG]

    for number, (title, bodies) in enumerate(LOG, 1):
        assert client.get("get_chat", token, number).title == title
        found: list[str] = []
        while page := client.get("list_messages", token, number, limit=1, after=len(found)).results:
            found += [message.body for message in page]
        assert found == bodies
        newest = client.get("list_messages", token, number, limit=1, order=client.models.ListMessagesOrder.DESC)
        assert newest.results[0] == client.get("get_message", token, number, len(bodies))
        assert newest.next_
        assert newest.previous is None


def test_counts_and_the_list_of_all_applications_follow(client: Client, token: str) -> None:
    def followed() -> bool:
        application = client.get("get_application", token)
        listed = client.get("list_applications", limit=1000).results
        counts = [chat.messages_count for chat in client.get("list_chats", token).results]
        return application in listed and application.chats_count == 2 and counts == [len(bodies) for _, bodies in LOG]

    eventually(followed)


def test_search_finds_them_with_what_was_found_marked(client: Client, token: str) -> None:
    def hits(query: str, **narrowed: Any) -> list[str]:
        return [hit.highlight for hit in client.get("search", query, application=token, **narrowed).results]

    eventually(lambda: hits("elan") == ["Hello, <em>Élan</em>!"])
    eventually(lambda: hits("好世", chat=1) == ["你<em>好世</em>界"])
    assert hits("elan", chat=2) == []
    # A slash separates words, escaped or not.
    assert hits("hello/elan") == ["<em>Hello</em>, <em>Élan</em>!"]


def test_a_change_answers_the_whole_and_moves_its_time(client: Client, token: str) -> None:
    models = client.models
    before = client.get("get_message", token, 2, 2)

    after = client.get("update_message", token, 2, 2, body=models.MessageRequest("No."))

    assert (after.number, after.body, after.created_at) == (before.number, "No.", before.created_at)
    assert after.last_request_time > before.last_request_time
    assert client.get("get_message", token, 2, 2) == after
    client.get("update_message", token, 2, 2, body=models.MessageRequest(before.body))
    assert client.get("update_chat", token, 2, body=models.ChatRequest("Plans")).number == 2
    assert client.get("update_application", token, body=models.ApplicationRequest("renamed")).name == "renamed"


def test_a_key_gets_the_first_answer_again_and_refuses_another_body(client: Client) -> None:
    models, key = client.models, str(uuid4())
    token = client.get("create_application", body=models.ApplicationRequest("keys")).token

    first = client.ask("create_chat", token, body=models.ChatRequest("once"), idempotency_key=key)
    again = client.ask("create_chat", token, body=models.ChatRequest("once"), idempotency_key=key)
    other = client.ask("create_chat", token, body=models.ChatRequest("twice"), idempotency_key=key)

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert again.parsed == first.parsed
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.parsed.errors[0].code == "idempotency_key_reused"


def test_what_has_not_changed_is_not_sent_again(client: Client, token: str) -> None:
    known = client.ask("get_message", token, 1, 1)

    again = client.ask("get_message", token, 1, 1, if_none_match=known.headers["ETag"])

    assert (again.status_code, again.content) == (304, b"")


def test_an_error_names_what_is_wrong(client: Client, token: str) -> None:
    models = client.models

    refused = client.ask("create_message", token, 1, body=[models.MessageRequest("good"), models.MessageRequest("")])
    unknown = client.ask("get_chat", token, 10**18)

    assert refused.status_code == 400
    assert refused.parsed.type_ == models.ErrorType.VALIDATION_ERROR
    assert [(error.code, error.attr) for error in refused.parsed.errors] == [("blank", "1.body")]
    assert unknown.status_code == 404
    assert [(error.code, error.attr) for error in unknown.parsed.errors] == [("not_found", None)]


def test_health_is_told(client: Client) -> None:
    assert client.get("live").status == "ok"
    assert client.get("ready").dependencies.to_dict() == dict.fromkeys(
        ("state", "database", "search", "workers", "live"), "ok"
    )
    assert "chatsystem_up" in client.ask("metrics").content.decode()
