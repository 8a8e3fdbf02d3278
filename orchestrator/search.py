"""The trials of a sweep, as Ray Tune asks for them: those of the search from our Optuna ask/tell, and
those that confirm its front.

Tune's loop, which also handles the reports, never waits for a proposal: until it is there, `suggest`
says that there is no trial now, and Tune asks again after its next event, or 0.1 s.

Outcomes do not come back this way: they are events (see `orchestrator.tune_events`), and
`ProposalListener` tells the study of them after the ledger has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ray.tune.search import Searcher

from orchestrator.ask_and_tell import Proposal
from orchestrator.confirmation import unconfirmed
from orchestrator.events import Event, TrialEnded, TrialProposed
from orchestrator.record import SweepRecord
from orchestrator.retries import RetryQueue
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.told import told
from orchestrator.trials import Trial
from trainables.ray_train import CONFIG_KEY, KNOWN_EPOCH_KEY, NAME_KEY

if TYPE_CHECKING:
    from orchestrator.proposals import Proposals
    from orchestrator.proposals_process import ProposalsProcess

Emit = Callable[[Event], None]
_LOOK_EVERY_S = 0.002
_TUNE_WAITS_S = 0.1
"""For an event, where there is none."""


def searched_trials(
    settings: SweepSettings, record: SweepRecord, ask: Callable[[], Proposal | None], emit: Emit
) -> Iterator[Trial | None]:
    """The trials of the search: first those that an earlier driver left unfinished, then new ones, as
    many as there are to be.

    None where the next one is asked for and not there yet.
    """
    yield from [trial for trial in record.trials.values() if trial.is_unfinished]
    while len(record.trials) < settings.num_trials:
        proposal = ask()
        if proposal is None:
            yield None
            continue
        number, values, sampler_state = proposal
        name = trial_name(number)
        config = to_trial_config(settings.trial, values).model_dump()
        emit(TrialProposed(name, number, values, config, time.time(), sampler_state))
        yield record.trials[name]


def confirming_trials(settings: SweepSettings, record: SweepRecord, emit: Emit) -> Iterator[Trial]:
    """The trials that confirm the front and have not ended."""
    for repeat in unconfirmed(record, settings.confirm):
        if repeat.name not in record.confirming:
            of = record.trials[repeat.confirms]
            config = {**of.config, "seed": repeat.seed}
            now, state = time.time(), {}
            emit(TrialProposed(repeat.name, of.number, of.parameters, config, now, state, of.name))
        yield record.confirming[repeat.name]


class TrialSearcher(Searcher):
    """Hands out trials while fewer than `max_concurrent` are live: those that are attempted again
    before others.

    Args:
        trials: in order; None for one that is not there yet.
        max_concurrent: trials that fit at once, now.
        retries: trials that wait for their next attempt.
        is_stopped: whether no further trial is wanted.
    """

    def __init__(
        self,
        trials: Iterator[Trial | None],
        max_concurrent: Callable[[], int],
        retries: RetryQueue,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._trials = trials
        self._are_all_out = False
        self._max_concurrent = max_concurrent
        self._retries = retries
        self._is_stopped = is_stopped
        self._live: list[Trial] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        self._live = [t for t in self._live if not t.is_ended and t not in self._retries]
        if len(self._live) >= self._max_concurrent():
            return None
        trial = self._retries.take() or self._next()
        if trial is None:
            is_over = not self._live and not self._retries
            is_over = is_over and (self._are_all_out or self._is_stopped())
            # The base's type leaves FINISHED out.
            return cast(Any, Searcher.FINISHED) if is_over else None
        self._live.append(trial)
        return {NAME_KEY: trial.name, CONFIG_KEY: trial.config, KNOWN_EPOCH_KEY: trial.last_epoch}

    def _next(self) -> Trial | None:
        """The next trial; waits for it only where no other can report meanwhile.

        With nothing live Tune would wait itself, a second each time.
        """
        deadline = time.monotonic() + _TUNE_WAITS_S if self._live else math.inf
        trial = self._look()
        while trial is None and all(live.status == "pending" for live in self._live):
            if self._are_all_out or self._is_stopped() or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY_S)
            trial = self._look()
        return trial

    def _look(self) -> Trial | None:
        try:
            return next(self._trials)
        except StopIteration:
            self._are_all_out = True
            return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: see `ProposalListener`."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""


def trial_name(number: int) -> str:
    """The name of a sweep's trial, also its MLflow run name and its folder's."""
    return f"trial-{number:04d}"


class ProposalListener:
    """Tells the study how trials of the search ended."""

    def __init__(self, proposals: Proposals | ProposalsProcess) -> None:
        self._proposals = proposals

    def __call__(self, event: Event, record: SweepRecord) -> None:
        if not isinstance(event, TrialEnded) or event.trial not in record.trials:
            return
        trial = record.trials[event.trial]
        came_to = told(trial, record)
        if came_to is None:
            self._proposals.tell_failed(trial.number)
        else:
            self._proposals.tell(trial.number, came_to)
