"""The pages of a sweep that was run, drawn anew where nothing of it is left but MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_runs import REPOSITORY, SweepRun

pytestmark = pytest.mark.slow


def test_mlflow_is_enough_for_every_page(tiny_sweep: SweepRun, tmp_path: Path) -> None:
    away = tiny_sweep.folder / "away"
    (tiny_sweep.folder / "runs").rename(away)
    try:
        result = _report(tiny_sweep, tmp_path)
    finally:
        away.rename(tiny_sweep.folder / "runs")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("imported: []\n")
    evaluated = sorted(key for key, metrics in tiny_sweep.record.evaluations.items() if metrics)
    pages = [f"points/{trial}-epoch-{epoch:04d}.html" for trial, epoch in evaluated]
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"report.html", "pareto_front.png", "pareto_front.csv", *pages} <= made
    for (trial, epoch), page in zip(evaluated, pages, strict=True):
        run_id = tiny_sweep.children[trial].info.run_id
        place = f"evaluations/epoch-{epoch:04d}/report.html"
        logged = Path(tiny_sweep.client.download_artifacts(run_id, place))
        assert logged.read_bytes() == (tmp_path / page).read_bytes()


def _report(sweep: SweepRun, out: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which then tells what it imported."""
    code = (
        "import sys; from dashboards.report import main; code = main(sys.argv[1:]); "
        "print('imported:', [name for name in ('ray', 'torch') if name in sys.modules]); sys.exit(code)"
    )
    arguments = [sweep.name, "--uri", f"sqlite:///{sweep.folder}/mlflow.db", "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
        capture_output=True,
        text=True,
    )
