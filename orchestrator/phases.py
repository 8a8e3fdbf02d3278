"""What Ray Tune runs for a sweep in one go: its search, or the confirmation of its front.

Used by `orchestrator.sweep`, which imports it when Ray is to start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.budget import SweepStopper
from orchestrator.driver import Driver
from orchestrator.early_stopping import EarlyStopping
from orchestrator.retention import OwnFront
from orchestrator.retries import RetryQueue
from orchestrator.search import TrialSearcher, confirming_trials, searched_trials
from orchestrator.trials import Trial
from orchestrator.tune_events import TuneEvents
from orchestrator.watchdog import Watchdog
from trainables import ray_train
from trainables.ray_train import NAME_KEY, CheckpointRule, SnapshotRule, TrialResources


class Phase(NamedTuple):
    """Trials that Ray Tune runs in one go.

    Attributes:
        trials: hands them out.
        snapshots: which of their points are worth one; None for none.
        scheduler: says which of them go on.
        stopped: those that do not, each with the reason.
    """

    trials: Iterator[Trial | None]
    snapshots: SnapshotRule | None
    scheduler: TrialScheduler
    stopped: Mapping[str, str]


def search(driver: Driver) -> Phase:
    """The trials that are unfinished, and those that will be proposed."""
    settings = driver.settings
    snapshots = SnapshotRule(
        folder=driver.paths.snapshot,
        trace=driver.paths.trace,
        is_wanted=OwnFront(settings.objectives, driver.record.front.constraints),
        with_embeddings=settings.tracking.embeddings != "none",
    )
    early_stopping = EarlyStopping(driver.stopping, driver.record)
    trials = searched_trials(settings, driver.record, driver.proposals.ask, driver.emit)
    return Phase(trials, snapshots, early_stopping, early_stopping.reasons)


def confirmation(driver: Driver) -> Phase:
    """The trials that confirm the front: of them only the reports matter, and none is stopped early."""
    trials = confirming_trials(driver.settings, driver.record, driver.emit)
    return Phase(trials, None, FIFOScheduler(), {})


def tuner(
    driver: Driver, stopper: SweepStopper, phase: Phase, max_concurrent: Callable[[], int]
) -> tune.Tuner:
    """What runs them, and emits what happens."""
    settings, retries = driver.settings, RetryQueue()
    given, every_s = settings.resources, settings.checkpoint_every
    every_s = math.inf if every_s is None else every_s
    resources = TrialResources(given.workers, given.cpus, given.gpus)
    events = TuneEvents(
        driver.emit,
        driver.record,
        stopper,
        phase.stopped,
        retries,
        settings.max_retries,
        Watchdog(settings.trial_timeout, of_groups=given.workers > 0),
        after_step=max_concurrent,  # which tells of nodes that come and go
    )
    return tune.Tuner(
        ray_train.make_trainable(
            resources,
            phase.snapshots,
            CheckpointRule(driver.paths.checkpoint, every_s),
            None if driver.paths.url else driver.paths.ledger,
        ),
        tune_config=tune.TuneConfig(
            search_alg=TrialSearcher(phase.trials, max_concurrent, retries, stopper.stop_all),
            scheduler=phase.scheduler,
            num_samples=-1,  # the searcher says when all are out
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config[NAME_KEY],
            # Each attempt has its own, since Tune adds to the errors that it finds there.
            trial_dirname_creator=lambda trial: f"{trial.config[NAME_KEY]}_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=driver.paths.tune.name,
            storage_path=str(driver.paths.tune.parent),
            callbacks=[events],
            stop=stopper,
            verbose=0,
        ),
    )
