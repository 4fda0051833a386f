"""Texts in a form, kept to the byte. Documented in docs/operations.md."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from rest_framework.serializers import Serializer

NEWLINE = re.compile(r"\r\n|\r|\n")


def keep_newlines(shown: str, submitted: str) -> str:
    """`submitted` with the newlines that it had when it was `shown`: a browser turns each of them into \\r\\n.

    A line that was added ends as most lines of the text do, in \\n when there were none.
    """
    old, endings = NEWLINE.split(shown), NEWLINE.findall(shown)
    new = NEWLINE.split(submitted)
    usual = max(endings, key=endings.count) if len(set(endings)) > 1 else next(iter(endings), "\n")
    kept = [usual] * (len(new) - 1)
    # Lines alike at both ends first: in a text of mostly equal lines, the matcher takes those for noise.
    ahead = _alike(old, new)
    behind = min(_alike(old[::-1], new[::-1]), len(old) - ahead, len(new) - ahead)
    matcher = SequenceMatcher(None, old[ahead : len(old) - behind], new[ahead : len(new) - behind])
    pairs = [(i, i) for i in range(ahead)]
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        # Edited lines keep their own ends; where lines were added or joined, the last one keeps that of the last.
        lines = i2 - i1 if i2 - i1 == j2 - j1 else min(i2 - i1, j2 - j1, 1)
        pairs += [(ahead + i2 - 1 - i, ahead + j2 - 1 - i) for i in range(lines)]
    pairs += [(len(old) - 1 - i, len(new) - 1 - i) for i in range(behind)]
    for before, now in pairs:
        if before < len(endings) and now < len(kept):
            kept[now] = endings[before]
    for i, (ending, following) in enumerate(pairwise(kept)):
        # Brought together by an edit, these two would read as one.
        if ending == "\r" and following == "\n" and not new[i + 1]:
            kept[i] = "\r\n"
    return "".join(line + ending for line, ending in zip(new, [*kept, ""], strict=True))


def _alike(old: list[str], new: list[str]) -> int:
    count = 0
    for before, now in zip(old, new, strict=False):
        if before != now:
            break
        count += 1
    return count


class ShownText(forms.HiddenInput):
    """Carries the text that the form showed, as JSON: its newlines come back as they were."""

    def format_value(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str | None:
        try:
            shown = json.loads(super().value_from_datadict(data, files, name))
        except (TypeError, ValueError):
            return None
        return shown if isinstance(shown, str) else None


class ExactText(forms.CharField):
    """A text kept to the byte. A textarea even for a name: an input would drop its newlines."""

    hidden_widget = ShownText

    def __init__(self, *, rows: int, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 100})
        super().__init__(strip=False, show_hidden_initial=True, widget=widget, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return NEWLINE.sub("\n", initial or "") != NEWLINE.sub("\n", data or "")


class EntityForm(forms.ModelForm):
    """Takes what the API takes: its serializer judges the text."""

    text_field: str
    serializer_class: type[Serializer]
    #: Why the write was not accepted the first time; shown above what was typed, which is not lost.
    refusal: str | None = None

    def clean(self) -> None:
        if self.refusal:
            raise ValidationError(self.refusal)
        text = self.cleaned_data.get(self.text_field)
        if text is None:
            return
        text = keep_newlines(self._shown(), text)
        judged = self.serializer_class(data={self.text_field: text})
        if judged.is_valid():
            self.cleaned_data[self.text_field] = text
        else:
            self.add_error(self.text_field, [str(error) for error in judged.errors[self.text_field]])

    def _shown(self) -> str:
        name = self[self.text_field].html_initial_name
        shown = ShownText().value_from_datadict(self.data, self.files, name)
        return self.initial[self.text_field] if shown is None else shown
