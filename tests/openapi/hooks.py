"""Adjusts requests where the description cannot express validity. fuzz.toml makes schemathesis import this."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import schemathesis
from schemathesis import Case, GenerationMode, HookContext


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Makes valid requests valid: takes cursors from links, and drops `chat` without `application`.

    Asks for events in long polls that do not wait: a stream would go on for ten minutes.
    """
    if case.path.endswith("/events"):
        case.headers["Accept"] = "application/json"
        # An invalid number stays.
        if case.query.get("wait", 1) in range(1, 31):
            case.query["wait"] = 0
    if not case.query or case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "application" not in case.query:
        case.query.pop("chat", None)
    if case.query.pop("cursor", None) is not None and (cursor := cursor_of_a_link(case)):
        case.query["cursor"] = cursor


def cursor_of_a_link(case: Case) -> str | None:
    """Returns the cursor of the list's second page, or None without one."""
    answer = requests.request(**{**case.as_transport_kwargs(), "timeout": 10})
    following = answer.json().get("next") if answer.status_code == 200 else None
    return parse_qs(urlsplit(following or "").query).get("cursor", [None])[0]
