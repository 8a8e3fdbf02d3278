"""Reads a YAML file safely and remembers on which line each key stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.scalarbool import ScalarBoolean

from orchestrator.errors import UserError

Location = Sequence[str | int]
_MAX_DEPTH = 100


@dataclass
class YamlSource:
    """A parsed file with the values that the command line put over it.

    Attributes:
        path: the file.
        data: its content; plain mappings, lists and scalars below.
        overrides: locations that `--set` wrote, with the argument as typed.
    """

    path: Path
    data: CommentedMap
    overrides: dict[tuple[str | int, ...], str] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """The place of a key for an error message: `file.yaml:12`, or the `--set` that wrote it."""
        for end in range(len(location), 0, -1):
            if (argument := self.overrides.get(tuple(location[:end]))) is not None:
                return f"--set {argument}"
        below = (a for place, a in self.overrides.items() if place[: len(location)] == tuple(location))
        if arguments := list(dict.fromkeys(below)):  # of a group, any of them may be at fault
            return ", ".join(f"--set {argument}" for argument in arguments)
        return f"{self.path}:{self._line(location)}"

    def names(self, location: Location) -> bool:
        """Whether the file, or an override, names this key or a group that it would stand in."""
        node: Any = self.data
        for key in location[:1]:
            if not isinstance(node, Mapping) or key not in node:
                return False
            node = node[key]
        return True

    def _line(self, location: Location) -> int:
        node: Any = self.data
        line = node.lc.line
        for key in location:
            if isinstance(node, CommentedMap) and key in node:
                line = node.lc.key(key)[0] if key in (node.lc.data or {}) else line
                node = node[key]
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line = node.lc.item(key)[0]
                node = node[key]
            else:
                break
        return line + 1

    def set(self, argument: str) -> None:
        """Puts one `key=value` over the file; the value is read as YAML.

        Keys are dotted. A key that itself holds a dot (`search_space.head.kind`) is found by the
        longest match.

        Raises:
            UserError: the argument has no `=`, its value is not YAML, or its path leads nowhere.
        """
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"--set {argument}: write --set key=value, for example --set trial.epochs=5")
        try:
            if fault := _never_needed(text):
                raise UserError(f"--set {argument}: {fault[1]}")
            value = YAML(typ="safe").load(text)
        except YAMLError as error:
            raise UserError(
                f"--set {argument}: the value is not valid YAML ({_brief(error)})"
            ) from error
        node: Any = self.data
        location: list[str | int] = []
        parts = key.split(".")
        while True:
            # The keys below search_space are dotted names themselves.
            whole = location == ["search_space"] and not _known_prefix(node, parts)
            name, parts = (".".join(parts), []) if whole else _longest_key(node, parts)
            location.append(name)
            if not parts:
                break
            if name not in node or node[name] is None:
                node[name] = CommentedMap()
                self.overrides[tuple(location)] = argument
            node = node[name]
            if not isinstance(node, dict):
                place = ".".join(map(str, location))
                raise UserError(f"--set {argument}: {place} is {node!r}, not a group of settings")
        node[location[-1]] = value
        self.overrides[tuple(location)] = argument


def _longest_key(node: Mapping[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in node:
            return name, parts[end:]
    return parts[0], parts[1:]


def _known_prefix(node: Mapping[str, Any], parts: list[str]) -> bool:
    return any(".".join(parts[:end]) in node for end in range(1, len(parts) + 1))


def read_yaml(path: Path) -> YamlSource:
    """Reads a YAML mapping.

    Raises:
        UserError: the file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_similar_files(path)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if fault := _never_needed(text):
            raise UserError(f"{path}:{fault[0]}: {fault[1]}")
        # The round-trip loader builds no objects beyond mappings, lists and scalars.
        data = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{place}: invalid YAML: {_brief(error)}") from None
    except YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {_brief(error)}") from None
    if not isinstance(data, CommentedMap):
        got = "an empty file" if data is None else "a list" if isinstance(data, list) else repr(data)
        raise UserError(f"{path}:1: a search space is a mapping of settings, got {got}")
    return YamlSource(path, data)


def _never_needed(text: str) -> tuple[int, str] | None:
    """The first line, from 1 on, that has a tag, an alias, or nesting that would hold up the loader for
    long, and what is wrong with it; None where there is none.
    """
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _MAX_DEPTH:
            return line, "nested too deeply for a search space"
        if isinstance(event, AliasEvent):  # a few of them can stand for billions of values
            return line, "YAML aliases are not allowed here; write the value out"
        if getattr(event, "tag", None) is not None:
            return line, f"YAML tags are not allowed here, got {event.tag}; remove it"
    return None


def _brief(error: YAMLError) -> str:
    if isinstance(error, MarkedYAMLError):
        return " ".join(str(error.problem or error.context).split())
    return str(error).splitlines()[0]


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = sorted(str(p) for p in path.parent.glob("*.yaml"))
    return f"; in that folder there are {', '.join(names)}" if names else ""


def plain(node: Any) -> Any:
    """The node without line numbers: dict, list and scalars of Python's own types."""
    if isinstance(node, Mapping):
        return {_plain_key(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, (bool, ScalarBoolean)):
        return bool(node)
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _plain_key(key: Any) -> Any:
    return str(key) if isinstance(key, str) else key
