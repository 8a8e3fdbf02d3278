"""What a sweep ran with: versions, commit, hardware. For the ledger and MLflow's tags."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DATA_DIGEST = "data_digest of "
"""Begins the name of each digest of data; what follows says what was read, as the settings name it."""
COMMIT_VARIABLE = "MONOCON_GIT_COMMIT"
"""The environment variable that tells the commit where the code was sent without its checkout."""
_PACKAGES = ("ray", "torch", "optuna", "mlflow", "numpy", "scikit-learn", "moocore")


def describe_environment() -> dict[str, str]:
    """Names to values; what cannot be found out is absent."""
    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    facts["cpus"] = str(os.cpu_count())
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if commit := git_commit():
        facts["git_commit"] = commit
    return facts


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` where it was changed; None outside a checkout that nothing
    tells of.
    """
    if told := os.environ.get(COMMIT_VARIABLE):
        return told
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    outputs = []
    for command in commands:
        try:
            result = subprocess.run(
                command,
                check=False,
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                timeout=10,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if result.returncode:
            return None
        outputs.append(result.stdout.strip())
    commit, changes = outputs
    return f"{commit}-dirty" if changes else commit
