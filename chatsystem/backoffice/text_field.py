"""A form field that keeps text byte for byte. Documented in docs/operations.md.

Browsers submit every newline as \\r\\n. Without this field, an edit of one word would change every line of a message.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from rest_framework.serializers import Serializer

NEWLINE = re.compile(r"\r\n|\r|\n")


def keep_newlines(shown: str, submitted: str) -> str:
    """Returns `submitted` with the newlines of `shown`, which the browser has turned into \\r\\n.

    Unchanged lines at both ends keep their newlines, and so do the lines in between if their number is the same.
    Otherwise all of these but the last get the most common newline of the text, or \\n if it had none. No diff:
    docs/decisions.md says why.
    """
    old, endings = NEWLINE.split(shown), NEWLINE.findall(shown)
    new = NEWLINE.split(submitted)
    usual = max(endings, key=endings.count) if len(set(endings)) > 1 else next(iter(endings), "\n")
    head = _alike(old, new)
    tail = min(_alike(old[::-1], new[::-1]), len(old) - head, len(new) - head)
    between = len(old) - head - tail
    if len(old) != len(new):
        between = min(between, len(new) - head - tail, 1)
    first = endings[: min(head, len(new) - 1)]
    last = endings[len(old) - tail - between :]
    kept = [*first, *[usual] * (len(new) - 1 - len(first) - len(last)), *last]
    for i, (ending, following) in enumerate(pairwise(kept)):
        # An edit that brings these two together would turn them into one newline.
        if ending == "\r" and following == "\n" and not new[i + 1]:
            kept[i] = "\r\n"
    return "".join(line + ending for line, ending in zip(new, [*kept, ""], strict=True))


def _alike(old: list[str], new: list[str]) -> int:
    """Returns how many lines at the start are equal."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((i for i, (before, now) in pairs if before != now), min(len(old), len(new)))


class ShownText(forms.HiddenInput):
    """Carries the text that the form showed. As JSON, so that its newlines come back unchanged."""

    def format_value(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str | None:
        try:
            shown = json.loads(super().value_from_datadict(data, files, name))
        except (TypeError, ValueError):
            return None
        return shown if isinstance(shown, str) else None


class ExactText(forms.CharField):
    """A text that is kept byte for byte. Names use a textarea too, because an input would drop their newlines."""

    hidden_widget = ShownText

    def __init__(self, *, rows: int, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 100})
        super().__init__(strip=False, show_hidden_initial=True, widget=widget, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return NEWLINE.sub("\n", initial or "") != NEWLINE.sub("\n", data or "")


class EntityForm(forms.ModelForm):
    """Accepts what the API accepts: the API's serializer validates the text."""

    text_field: str
    serializer_class: type[Serializer]
    #: Why the write was rejected. Shown above the typed text, which is kept.
    refusal: str | None = None

    def clean(self) -> None:
        if self.refusal:
            raise ValidationError(self.refusal)
        text = self.cleaned_data.get(self.text_field)
        if text is None:
            return
        text = keep_newlines(self._shown(), text)
        serializer = self.serializer_class(data={self.text_field: text})
        if serializer.is_valid():
            self.cleaned_data[self.text_field] = text
        else:
            self.add_error(self.text_field, [str(error) for error in serializer.errors[self.text_field]])

    def _shown(self) -> str:
        name = self[self.text_field].html_initial_name
        shown = ShownText().value_from_datadict(self.data, self.files, name)
        return self.initial[self.text_field] if shown is None else shown
