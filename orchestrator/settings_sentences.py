"""Sentences about settings that are not legal, without pydantic's own vocabulary. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def sentence(
    item: Mapping[str, Any], location: Sequence[int | str], dotted: str, known_keys: Iterable[str] = ()
) -> str:
    """What one of pydantic's errors says is wrong, and what would be right."""
    got = item.get("input")
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key {dotted!r}{nearest(str(location[-1]), known_keys)}"
        case "missing":
            return f"{dotted!r} is missing; add it"
        case "literal_error":
            return f"{dotted} {_not_one_of(got, str(item['ctx']['expected']))}"
        case "value_error":
            message = str(item["msg"]).removeprefix("Value error, ")
        case _ if got is None:
            message = "it is empty; give it a value, or remove it"
        case "model_type" | "dict_type":
            message = f"it is a group of settings, written as a mapping; got {got!r}"
        case _:
            message = f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {got!r}"
    return f"{dotted}: {message}" if dotted else message


def _not_one_of(got: object, expected: str) -> str:
    words = re.findall(r"'([^']*)'", expected)
    text = f"is {got!r}, which is none of {', '.join(words)}"
    return text + (nearest(got, words, []) if isinstance(got, str) else "")


def nearest(word: str, known: Iterable[str], in_short: Iterable[str] | None = None) -> str:
    """The known word that was probably meant; where none is near, all of them, or `in_short`."""
    known = list(known)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f"; did you mean {close[0]!r}?"
    listed = known if in_short is None else list(in_short)
    return f"; known are {', '.join(listed)}" if listed else ""
