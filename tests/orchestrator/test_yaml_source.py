from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.yaml_source import plain, read_yaml

Write = Callable[[str | bytes], Path]

TEXT = """\
name: s
search_space:
  head.kind:
    choice: [none, mlp]
  temperature: {uniform: [0.1, 0.5]}
first_trials:
  - {head.kind: none}
  - {head.kind: mlp}
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (["name"], 1),
        (["search_space", "head.kind"], 3),
        (["search_space", "head.kind", "choice"], 4),
        (["search_space", "temperature", "uniform", 1], 5),
        (["first_trials", 1, "head.kind"], 8),
        (["search_space", "absent"], 2),
        (["absent"], 1),
    ],
)
def test_where_names_the_line_of_a_key(location: list[str | int], line: int, write_space: Write) -> None:
    path = write_space(TEXT)
    assert read_yaml(path).where(location) == f"{path}:{line}"


def test_plain_keeps_content_and_drops_yaml_types(write_space: Write) -> None:
    data = plain(read_yaml(write_space("a: [1, 2.5, x, true, null]\nb: {1: 0x10}\n")).data)
    assert data == {"a": [1, 2.5, "x", True, None], "b": {1: 16}}
    assert [type(value) for value in data["a"]] == [int, float, str, bool, type(None)]
    assert type(data["b"][1]) is int


@pytest.mark.parametrize(
    ("argument", "location", "value"),
    [
        ("name=other", ["name"], "other"),
        ("trial.head.depth=3", ["trial", "head", "depth"], 3),
        ("search_space.head.kind.choice=[mlp]", ["search_space", "head.kind", "choice"], ["mlp"]),
        ("search_space.head.depth={int: [1, 2]}", ["search_space", "head.depth"], {"int": [1, 2]}),
        ("storage=a=b", ["storage"], "a=b"),
        ("trial.temperature=5e-2", ["trial", "temperature"], 0.05),
        ("search.time_budget=null", ["search", "time_budget"], None),
    ],
)
def test_set_puts_a_value_over_the_file(
    argument: str, location: list[str], value: object, write_space: Write
) -> None:
    source = read_yaml(write_space(TEXT))
    source.set(argument)
    node = plain(source.data)
    for key in location:
        node = node[key]
    assert node == value
    assert source.where(location) == f"--set {argument}"


def test_set_leaves_other_lines_in_place(write_space: Write) -> None:
    path = write_space(TEXT)
    source = read_yaml(path)
    source.set("search_space.temperature={uniform: [1, 2]}")
    assert source.where(["search_space", "head.kind"]) == f"{path}:3"
    assert source.where(["search_space", "temperature", "uniform"]).startswith("--set ")


def test_set_finds_the_longest_key(write_space: Write) -> None:
    source = read_yaml(write_space("a: 1\na.b: 2\na.b.c: 3\n"))
    source.set("a.b=4")
    assert plain(source.data) == {"a": 1, "a.b": 4, "a.b.c": 3}


def test_the_last_set_of_a_key_wins(write_space: Write) -> None:
    source = read_yaml(write_space(TEXT))
    source.set("name=first")
    source.set("name=second")
    assert plain(source.data)["name"] == "second"
    assert source.where(["name"]) == "--set name=second"


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("name", ["--set name: ", "key=value"]),
        ("=3", ["--set =3: ", "key=value"]),
        ("name=[1", ["--set name=[1: ", "not valid YAML"]),
        ("name=[&a [1], *a]", ["--set name=[&a [1], *a]: ", "aliases are not allowed"]),
        ("name=!!python/none x", ["--set name=!!python/none x: ", "tags are not allowed"]),
        ("name=" + "[" * 3000, ["--set name=[[[", "nested too deeply"]),
        ("name.deeper=1", ["--set name.deeper=1: ", "name is 's'", "not a group"]),
        ("first_trials.0.head.kind=mlp", ["--set first_trials.0", "not a group"]),
    ],
)
def test_set_refuses_what_leads_nowhere(argument: str, fragments: list[str], write_space: Write) -> None:
    source = read_yaml(write_space(TEXT))
    with pytest.raises(UserError) as caught:
        source.set(argument)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("name: [1, 2\nfoo: bar\n", ["space.yaml:2: invalid YAML"]),
        ("a:\n  b: 1\n\tc: 2\n", ["space.yaml:3: invalid YAML", "\\t"]),
        ("a: 1\nb: 2\na: 3\n", ["space.yaml:3: ", 'duplicate key "a"']),
        ("a: 1\n---\nb: 2\n", ["space.yaml:2: ", "another document"]),
        ("a: *nowhere\n", ["space.yaml:1: ", "aliases are not allowed"]),
        ("- a\n- b\n", ["space.yaml:1: ", "mapping", "a list"]),
        ("just words\n", ["space.yaml:1: ", "mapping"]),
        ("", ["space.yaml:1: ", "mapping"]),
        (b"\xff\xfe\x00\x01", ["space.yaml: ", "UTF-8"]),
        (b"name: a\x00b\n", ["space.yaml: ", "invalid YAML", "#x0000"]),
        (b"\x89PNG\r\n\x1a\n", ["space.yaml: ", "UTF-8"]),
    ],
    ids=["open", "tab", "duplicate", "two", "alias", "list", "text", "empty", "utf16", "nul", "png"],
)
def test_a_file_that_is_no_mapping_is_refused(
    text: str | bytes, fragments: list[str], write_space: Write
) -> None:
    with pytest.raises(UserError) as caught:
        read_yaml(write_space(text))
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="no such file") as caught:
        read_yaml(tmp_path / "digit.yaml")
    assert str(tmp_path / "digits.yaml") in str(caught.value)
    assert "notes.txt" not in str(caught.value)


def test_a_missing_folder_is_said_without_suggestions(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "digits.yaml"
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: no such file$"):
        read_yaml(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read \\(Is a directory\\)"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("start", ["", "storage: ", "storage: \n  - "])
def test_tags_build_and_run_nothing(start: str, tmp_path: Path, write_space: Write) -> None:
    made = tmp_path / "made"
    path = write_space(f"{start}!!python/object/apply:os.system ['touch {made}']\n")
    try:
        data = plain(read_yaml(path).data)
    except UserError:
        data = {}
    assert not made.exists()
    assert all(isinstance(value, list) for value in data.values())


def test_tags_in_a_set_are_refused(tmp_path: Path, write_space: Write) -> None:
    made = tmp_path / "made"
    source = read_yaml(write_space(TEXT))
    with pytest.raises(UserError, match="YAML tags are not allowed here"):
        source.set(f"storage=!!python/object/apply:os.system ['touch {made}']")
    assert not made.exists()


def test_a_dotted_parameter_is_set_in_a_space_without_one(write_space: Write) -> None:
    source = read_yaml(write_space("search_space:\n  temperature: {uniform: [0.1, 1]}\n"))
    source.set("search_space.head.kind={choice: [mlp]}")
    source.set("search_space.temperature.uniform=[0.2, 1]")
    assert source.data["search_space"] == {
        "temperature": {"uniform": [0.2, 1]},
        "head.kind": {"choice": ["mlp"]},
    }


def test_a_group_that_was_set_can_be_set_into(write_space: Write) -> None:
    source = read_yaml(write_space("name: s\n"))
    source.set("trial={epochs: 3}")
    source.set("trial.batch_size=64")
    assert source.data["trial"] == {"epochs": 3, "batch_size": 64}


def test_an_anchored_boolean_stays_one(write_space: Write) -> None:
    assert plain(read_yaml(write_space("a: &x true\n")).data)["a"] is True


def test_an_override_below_a_fault_is_its_place(write_space: Write) -> None:
    source = read_yaml(write_space("search_space:\n  temperature: {log_uniform: [0.1, 1]}\n"))
    source.set("search_space.temperature.log_uniform=[0, 1]")
    assert source.where(["search_space", "temperature"]).startswith("--set search_space.temperature")


def test_a_few_aliases_cannot_stand_for_billions(write_space: Write) -> None:
    lines = ["a0: &a0 [x, x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    with pytest.raises(UserError, match=r"space.yaml:2: YAML aliases are not allowed"):
        read_yaml(write_space("\n".join(lines) + "\n"))


@pytest.mark.parametrize("depth", [100, 5_000])
def test_nesting_without_end_is_refused(depth: int, write_space: Write) -> None:
    with pytest.raises(UserError, match=r"space.yaml:2: nested too deeply for a search space"):
        read_yaml(write_space("# deep\na: " + "[" * depth + "]" * depth + "\n"))


def test_what_is_nested_less_is_read(write_space: Write) -> None:
    data = read_yaml(write_space("a: " + "[" * 99 + "]" * 99 + "\n")).data
    value, depth = data["a"], 1
    while value:
        value, depth = value[0], depth + 1
    assert depth == 99


def test_of_a_group_all_that_was_set_in_it_is_named(write_space: Write) -> None:
    source = read_yaml(write_space("trial: {epochs: 3}\nsearch: {trials: 4}\n"))
    for argument in ("trial.epochs=6", "search.trials=5", "trial.data.source=./x"):
        source.set(argument)
    assert source.where(["trial"]) == "--set trial.epochs=6, --set trial.data.source=./x"
    assert source.where(["search"]) == "--set search.trials=5"
