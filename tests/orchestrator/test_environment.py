from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from orchestrator import environment
from orchestrator.environment import describe_environment, git_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in which the module seems to lie."""
    file = tmp_path / "environment.py"
    file.write_text("first")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(environment, "__file__", str(file))
    return tmp_path


def test_versions_and_hardware_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "git_commit", lambda: "abc-dirty")
    facts = describe_environment()
    assert facts["python"] == platform.python_version()
    assert facts["cpus"] == str(os.cpu_count())
    assert [facts[name] for name in ("ray", "torch", "optuna", "mlflow")] == [
        version(name) for name in ("ray", "torch", "optuna", "mlflow")
    ]
    assert facts["git_commit"] == "abc-dirty"


def test_what_cannot_be_found_out_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "git_commit", lambda: None)
    monkeypatch.setattr(environment, "_PACKAGES", ("numpy", "no-such-package-anywhere"))
    assert sorted(describe_environment()) == ["cpus", "numpy", "platform", "python"]


@pytest.mark.slow
def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    commit = git_commit()
    assert commit == git(checkout, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", str(commit))


@pytest.mark.slow
def test_a_changed_checkout_is_called_dirty(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("untracked files do not count")
    assert not str(git_commit()).endswith("-dirty")
    (checkout / "environment.py").write_text("second")
    assert git_commit() == git(checkout, "rev-parse", "HEAD") + "-dirty"


@pytest.mark.slow
def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert git_commit() is None


def test_code_that_was_sent_is_of_the_commit_that_came_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.COMMIT_VARIABLE, "abc-dirty")
    assert git_commit() == "abc-dirty"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
