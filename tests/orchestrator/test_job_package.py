from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.job_package import (
    PACKAGES,
    needed_files,
    needed_requirements,
    read_lock,
    require_size,
    root_of,
    stage,
)

REPOSITORY = Path(__file__).parents[2]
LOCK = """\
a==1.0
    # via monocon-sweep (pyproject.toml)
b==2.0 ; sys_platform == 'linux'
    # via
    #   a
    #   linter
linter==3.0
    # via monocon-sweep (pyproject.toml:dev)
node==4.0
    # via linter
tests-and-run==5.0
    # via
    #   monocon-sweep (pyproject.toml:dev)
    #   monocon-sweep (pyproject.toml)
"""


def test_the_packages_and_the_settings_are_sent_and_nothing_else(tmp_path: Path) -> None:
    stage(tmp_path, "name: s\n")
    assert {path.name for path in tmp_path.iterdir()} == {*PACKAGES, "sweep.yaml"}
    assert (tmp_path / "sweep.yaml").read_text() == "name: s\n"
    sent = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.suffix for path in sent} == {".py", ".yaml", ".js", ".css"}
    assert {Path("orchestrator/sweep.py"), Path("dashboards/assets/page.js")} < sent
    assert sum((tmp_path / path).stat().st_size for path in sent) < 5 * 2**20


def test_every_module_that_is_imported_is_sent(tmp_path: Path) -> None:
    stage(tmp_path, None)
    missing = set()
    for file in tmp_path.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in PACKAGES
            ):
                module = tmp_path.joinpath(*node.module.split("."))
                if not (module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()):
                    missing.add(node.module)
    assert missing == set()


def test_a_resume_by_its_own_settings_sends_none(tmp_path: Path) -> None:
    stage(tmp_path, None)
    assert not (tmp_path / "sweep.yaml").exists()


def test_an_installed_package_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "installed_package"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "page.png", "__pycache__/__init__.cpython-311.pyc", "data.npy"):
        (package / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert root_of("installed_package") == package
    assert [file.name for file in needed_files(package)] == ["__init__.py"]


def test_what_is_too_large_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name, size in {"assets/model.js": 3 * 2**20, "b.yaml": 2**20, "c.py": 10}.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    require_size(tmp_path, 5 * 2**20)
    with pytest.raises(UserError, match=r"has 4\.0 MiB, and Ray takes less than 4\.0 MiB") as caught:
        require_size(tmp_path, 4 * 2**20)
    lines = str(caught.value).splitlines()
    assert [line.strip() for line in lines[1:3]] == ["assets/model.js: 3.0 MiB", "b.yaml: 1.0 MiB"]


def test_only_what_a_run_needs_is_installed() -> None:
    assert needed_requirements(LOCK) == [
        "a==1.0",
        "b==2.0 ; sys_platform == 'linux'",
        "tests-and-run==5.0",
    ]


def test_the_projects_own_lock_is_read() -> None:
    names = {line.partition("==")[0] for line in read_lock(REPOSITORY)}
    assert {"ray", "torch", "optuna", "mlflow", "sqlalchemy", "virtualenv"} < names
    assert not {"pytest", "ruff", "pyright", "playwright"} & names


def test_without_a_lock_there_are_no_locked_dependencies(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--dependencies: .*requirements\.lock does not exist"):
        read_lock(tmp_path)
