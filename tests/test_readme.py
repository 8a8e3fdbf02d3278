"""The README tells the truth: its commands are accepted, its files exist."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from orchestrator import dry_run, submit_options, sweep
from orchestrator.cluster_settings import require_remote
from orchestrator.command_line import overrides_of
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.yaml_source import read_yaml

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


SHELL_LINES = [line.split("#")[0].strip() for block in _blocks("sh") for line in block.splitlines()]
SWEEPS = [line for line in SHELL_LINES if line.startswith("python -m orchestrator.sweep")]
SUBMISSIONS = [line for line in SHELL_LINES if line.startswith("python -m orchestrator.submit")]


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = [line.split()[1] for line in SHELL_LINES if line.startswith("make ")]
    assert targets[:2] == ["sweep", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("line", SWEEPS)
def test_sweep_commands_are_accepted(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to where a sweep would start, or a dry run would time a training step."""
    shown: list[SweepSettings] = []
    monkeypatch.setattr(dry_run, "show", lambda settings, *_: shown.append(settings))
    monkeypatch.chdir(REPOSITORY)
    words = [*shlex.split(line)[3:], "--dry-run", "--set", f"storage={tmp_path}"]
    code = sweep.main(words)
    if {"--resume", "--import"} & set(words):  # of what is there, tests/e2e shows it
        assert f"there is no such sweep in {tmp_path}" in capsys.readouterr().err
    else:
        assert code == 0 and len(shown) == 1, capsys.readouterr().err


@pytest.mark.parametrize("line", SUBMISSIONS)
def test_submissions_are_accepted(line: str) -> None:
    options = submit_options.parse(shlex.split(line)[3:])
    if options.file:
        require_remote(load_settings(REPOSITORY / options.file, overrides_of(options)))
    else:
        assert options.status or options.stop or options.resume


@pytest.mark.parametrize("line", [line for line in SHELL_LINES if "-m dashboards." in line])
def test_commands_of_pages_are_accepted(line: str) -> None:
    _, _, module, *words = shlex.split(line)
    assert importlib.import_module(module)._parse(words)


@pytest.mark.parametrize("example", _blocks("yaml"))
def test_examples_are_valid(example: str, tmp_path: Path) -> None:
    """Whole sweeps, and fragments with a `trial` alone."""
    file = tmp_path / "example.yaml"
    file.write_text(example)
    if read_yaml(file).data.keys() == {"trial"}:
        file.write_text(f"name: own\nsearch_space: {{temperature: {{uniform: [0.1, 0.2]}}}}\n{example}")
    assert load_settings(file).search_space


def test_the_first_example_is_a_whole_sweep_with_a_baseline(tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(_blocks("yaml")[0])
    assert load_settings(tmp_path / "example.yaml").first_trials


def test_tree_names_what_is_there() -> None:
    tree = next(block for block in _blocks("") if "WHAT may vary" in block)
    folder = ""
    named: dict[str, set[str]] = {}
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = line.split("  ")[0].rstrip("/")
            named[folder] = set()
        named[folder] |= set(re.findall(r"(?:^|, | {2})(\w+\.(?:py|yaml))", line))
    folders = ("search_spaces", "trainables", "orchestrator", "orchestrator/deploy", "dashboards")
    for folder in (*folders, "dashboards/figures"):
        there = {path.name for path in (REPOSITORY / folder).glob("[!_]*.[py][ya]*")}
        assert named[folder] == there, folder


def test_linked_files_and_pictures_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert all((REPOSITORY / link).exists() for link in local)


def test_nothing_is_left_to_be_filled_in() -> None:
    known = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "RAY_AUTH_MODE"}
    known |= {"MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}
    known |= {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"}
    known |= {"MONOCON_CACHE", "MONOCON_NUM_KILLS"}
    known |= {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    known |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_MAX_ATTEMPTS"}
    known |= {"AWS_ENDPOINT_URL"}  # of _S3: digits end what is looked for
    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", README)) <= known
