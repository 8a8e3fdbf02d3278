"""Sweeps in MLflow: what the pages read of them, and write to them."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from dashboards.metric_histories import read_histories
from dashboards.sweep_results import TEST
from dashboards.tracked_runs import ChildRun, Histories, ParentRun, SweepSummary, summary
from orchestrator.errors import NotFoundError, UserError
from orchestrator.mlflow_values import (
    CONFIRMS,
    EVALUATION_FAILED,
    NUM_RETRIES,
    PARENT,
    RAN,
    SETTINGS,
    SWEEPS,
    TRACES,
    evaluation_folder,
)
from orchestrator.process_environment import prepare_mlflow
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.tracking_check import check_tracking, refusal
from trainables.reports import METRICS

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.store.entities import PagedList

_DESCRIPTION = "mlflow.note.content"
_PAGE_SIZE = 1000
_MAX_NEAREST = 5
_CHILD_TAGS = ("status", "reason", "warning", CONFIRMS, NUM_RETRIES, RAN)

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's name of the error."""
_REFUSALS = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}
"""Those that are about who asks, and the status that comes with them."""
_RUN_ID = re.compile("[0-9a-f]{32}")

_Item = TypeVar("_Item")


class SweepStore:
    """The sweeps of one tracking URI.

    Every method raises `UserError` with one line where MLflow does not answer as it should.

    Args:
        uri: such as sqlite:///mlflow.db or http://HOST:PORT. Nothing is created there.

    Raises:
        UserError: nothing is there.
    """

    def __init__(self, uri: str) -> None:
        _require_store(uri)
        prepare_mlflow()  # or it asks a server that is gone for minutes
        # Or each file that is read or written is a bar on the terminal.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        self.uri = uri
        with self._one_line():
            self._client = MlflowClient(tracking_uri=uri)
            if self.is_server:
                # Says at once where credentials are wrong.
                self._client.search_experiments(max_results=1)

    def sweeps(self) -> list[SweepSummary]:
        """All sweeps of the store, the newest first."""
        with self._one_line():
            parents = self._parents()
        found = [summary(_parent(run), run.data.params) for run in parents]
        return sorted(found, key=lambda sweep: sweep.started, reverse=True)

    def parent(self, sweep: str) -> ParentRun:
        """The own run of a sweep: the newest of a name, or the one of a run id.

        Raises:
            UserError: there is none.
        """
        return self.find(sweep)[0]

    def find(self, sweep: str) -> tuple[ParentRun, int]:
        """The same, and how many sweeps have its name."""
        with self._one_line():
            parents = self._parents()
        named = [run for run in parents if run.data.tags.get("sweep") == sweep]
        if not named:
            named = [run for run in parents if run.info.run_id == sweep]
        if not named:
            raise self._trials_sweep(sweep) or self._unknown(sweep, parents)
        found = max(named, key=lambda run: run.info.start_time)
        name = found.data.tags.get("sweep")
        return _parent(found), sum(run.data.tags.get("sweep") == name for run in parents)

    def reread(self, parent: ParentRun) -> ParentRun:
        """The same run as it is now."""
        with self._one_line():
            return _parent(self._client.get_run(parent.run_id))

    def children(self, parent: ParentRun, condition: str = "") -> list[ChildRun]:
        """The runs of a sweep's trials, of those that meet a condition of MLflow's language."""
        mine = f"tags.`{PARENT}` = '{parent.run_id}'"
        asked = f"{mine} and {condition}" if condition else mine
        with self._one_line():
            return [_child(run) for run in self._search([parent.experiment_id], asked)]

    def child(self, run_id: str) -> ChildRun:
        """A trial's run as it is now."""
        with self._one_line():
            return _child(self._client.get_run(run_id))

    def histories(self, run_ids: Sequence[str], names: Sequence[str]) -> dict[str, Histories]:
        """Metrics of runs by epoch: see `dashboards.metric_histories`.

        Args:
            run_ids: not more than GROUP_RUNS, with not more than GROUP_ROWS values of a metric.
            names: of metrics.
        """
        with self._one_line():
            return read_histories(self._client, self.uri, run_ids, names)

    @property
    def is_server(self) -> bool:
        """Whether the sweeps are behind HTTP, so that they have pages to link to."""
        return self.uri.startswith(("http://", "https://"))

    def settings(self, parent: ParentRun) -> SweepSettings:
        """A sweep's, as its latest driver had them.

        Raises:
            UserError: they are not there yet, or of another version.
        """
        with self._one_line(), tempfile.TemporaryDirectory() as folder:
            path = self._download(parent.run_id, SETTINGS, Path(folder))
            if path is None:
                text = f"the run {parent.run_id} of sweep {parent.name!r} has no {SETTINGS} (yet)"
                raise UserError(f"{self.uri}: {text}")
            try:
                return load_settings(path)
            except UserError as error:
                cause = str(error).replace(str(path), SETTINGS)
                raise UserError(f"{self.uri}: sweep {parent.name!r}: {cause}") from None

    def text(self, run_id: str, place: str) -> str | None:
        """An artifact's; None where there is none."""
        content = self.content(run_id, place)
        return None if content is None else content.decode()

    def content(self, run_id: str, place: str) -> bytes | None:
        """The same as it lies there."""
        with self._one_line(), tempfile.TemporaryDirectory() as folder:
            path = self._download(run_id, place, Path(folder))
            return None if path is None else path.read_bytes()

    def point_folder(self, run_id: str, epoch: int, into: Path) -> Path:
        """Downloads the files of a point's final evaluation, and the traces of its trial.

        Args:
            run_id: the trial's run.
            epoch: of the point.
            into: an existing folder.

        Returns:
            `into`, with `evaluations/epoch-NNNN` and `traces` as they are in MLflow, as far as they are.
        """
        with self._one_line(), tempfile.TemporaryDirectory(dir=into) as folder:
            for place in (evaluation_folder(epoch), TRACES):
                if self._client.list_artifacts(run_id, place):
                    # Where this puts it differs from one kind of store to the next.
                    found = self._client.download_artifacts(run_id, place, folder)
                    (into / place).parent.mkdir(parents=True, exist_ok=True)
                    Path(found).rename(into / place)
        return into

    def describe(self, run_id: str, text: str) -> None:
        """Sets the description that MLflow shows of a run, as Markdown."""
        with self._one_line():
            self._client.set_tag(run_id, _DESCRIPTION, text)

    def log(self, run_id: str, place: str, files: Mapping[str, bytes]) -> None:
        """Puts files beside a run's own, in its artifact folder `place`; "" is that of all."""
        with self._one_line(), tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(run_id, folder, place or None)

    def _trials_sweep(self, run_id: str) -> NotFoundError | None:
        """What to ask for instead, where the id is of a trial's run."""
        if not _RUN_ID.fullmatch(run_id):
            return None
        try:
            with self._one_line():
                trial = self._client.get_run(run_id)
                sweep_run_id = trial.data.tags.get(PARENT)
                sweep = self._client.get_run(sweep_run_id) if sweep_run_id else None
        except NotFoundError:
            return None
        if sweep is None:
            return None
        name, trial_name = sweep.data.tags.get("sweep"), trial.data.tags.get("trial", run_id)
        return NotFoundError(
            f"{self.uri}: the run {run_id} is {trial_name} of sweep {name!r}; "
            f"name the sweep, or its run {sweep_run_id}"
        )

    def _parents(self) -> list[Run]:
        experiments = [
            e.experiment_id for e in _pages(lambda t: self._client.search_experiments(page_token=t))
        ]
        return [run for run in self._search(experiments, SWEEPS) if PARENT not in run.data.tags]

    def _search(self, experiments: Sequence[str], condition: str) -> list[Run]:
        return _pages(
            lambda token: self._client.search_runs(
                list(experiments), condition, max_results=_PAGE_SIZE, page_token=token
            )
        )

    def _download(self, run_id: str, place: str, into: Path) -> Path | None:
        """An artifact as a file; None where there is none."""
        folder = str(PurePosixPath(place).parent)
        present = self._client.list_artifacts(run_id, None if folder == "." else folder)
        if place not in {item.path for item in present}:
            return None
        return Path(self._client.download_artifacts(run_id, place, str(into)))

    def _unknown(self, name: str, parents: Sequence[Run]) -> NotFoundError:
        known = sorted({run.data.tags.get("sweep", "") for run in parents})
        if not known:
            return _empty(self.uri)
        nearest = difflib.get_close_matches(name, known, _MAX_NEAREST, cutoff=0.0)
        return NotFoundError(f"{self.uri} has no sweep {name!r}; it has {', '.join(nearest)}")

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except UserError:
            raise
        except (MlflowException, OSError) as error:
            text = " ".join(str(error).split())
            if (status := _refused(error)) is not None:
                raise UserError(refusal(self.uri, status, "to do this", text)) from error
            is_absent = getattr(error, "error_code", "") == _ABSENT
            kind = NotFoundError if is_absent else UserError
            raise kind(f"{self.uri}: {text}") from error


def _refused(error: Exception) -> int | None:
    """The status of an answer that lets nobody in without further rights; None of any other failure."""
    answer = getattr(error, "response", None)  # where it is about an artifact
    status = getattr(answer, "status_code", None) or _REFUSALS.get(getattr(error, "error_code", ""))
    return status if status in _REFUSALS.values() else None


def _require_store(uri: str) -> None:
    try:
        check_tracking(uri)
    except UserError as error:
        raise UserError(str(error).replace("tracking.uri", "--uri")) from None
    database = Path(uri.removeprefix("sqlite:///"))
    # MLflow would make the database where there is none.
    if uri.startswith("sqlite:") and not (database.exists() and database.stat().st_size):
        raise _empty(uri)


def _empty(uri: str) -> NotFoundError:
    return NotFoundError(
        f"{uri} has no experiment with a sweep; name another with --uri, "
        "or run one: python -m orchestrator.sweep"
    )


def _parent(run: Run) -> ParentRun:
    return ParentRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        tags=dict(run.data.tags),
        started=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if run.info.end_time else None,
        latest={name: None if math.isnan(v) else v for name, v in run.data.metrics.items()},
    )


def _child(run: Run) -> ChildRun:
    return ChildRun(
        run_id=run.info.run_id,
        trial=run.data.tags.get("trial", str(run.info.run_name)),
        is_open=run.info.status == "RUNNING",
        tags={name: run.data.tags[name] for name in _CHILD_TAGS if name in run.data.tags},
        params=dict(run.data.params),
        proposed=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if run.info.end_time else None,
        latest={
            name: None if math.isnan(value) else value
            for name, value in run.data.metrics.items()
            if name in METRICS or name.startswith(TEST) or name == EVALUATION_FAILED
        },
    )


def _pages(ask: Callable[[str | None], PagedList[_Item]]) -> list[_Item]:
    """All items of a search that answers page by page."""
    items: list[_Item] = []
    token: str | None = None
    while True:
        page = ask(token)
        items += page
        token = page.token
        if not token:
            return items
