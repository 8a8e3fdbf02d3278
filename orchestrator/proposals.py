"""Optuna's ask and tell over our search space. Knows nothing of Ray, so a dry run uses it too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState
from scipy.stats import qmc

from orchestrator.ask_and_tell import Known, Proposal, Told
from orchestrator.search_space import Parameter, Value, is_active, order
from orchestrator.settings import SamplerKind, SweepSettings
from trainables.reports import Direction

_OF_STUDY = "study"
"""The key, in a trial's sampler state, of what was written down about the whole study."""
PLANNED: tuple[SamplerKind, ...] = ("qmc", "grid", "list")
"""Samplers that draw nothing: each trial follows from its number."""
SAMPLERS: dict[SamplerKind, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    **{kind: lambda seed: RandomSampler(seed=seed) for kind in PLANNED},
}


DIRECTIONS: dict[Direction, StudyDirection] = {
    "max": StudyDirection.MAXIMIZE,
    "min": StudyDirection.MINIMIZE,
}


class Proposals:
    """The study of one sweep.

    What is proposed depends on the seed, the trial's number and what was told before, and on nothing
    that a process remembers: so a study that is rebuilt proposes what the first one would have.
    Every trial that was asked for must be told of once, by `tell` or `tell_failed`.

    Args:
        settings: the sweep's.
        history: the trials that were asked for before, in order of number.
        imported: trials of earlier sweeps, which the sampler takes into account; they have no number.
    """

    def __init__(
        self,
        settings: SweepSettings,
        history: Sequence[Known] = (),
        imported: Sequence[Known] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._order = order(settings.search_space)
        self.study = optuna.create_study(
            study_name=settings.name,
            sampler=self._sampler(len(history)),
            directions=[DIRECTIONS[direction] for direction in settings.objectives.values()],
        )
        self._storage = self.study._storage
        self._num_imported = len(imported)
        self.study.add_trials([self._as_trial(self._of_first_generation(known)) for known in imported])
        for known in history:
            self.study.add_trial(self._as_trial(known))
            for name, value in known.sampler_state.get(_OF_STUDY, {}).items():
                self._storage.set_study_system_attr(self.study._study_id, name, value)
        self._num_asked = len(history)
        self._open: dict[int, optuna.Trial] = {
            trial.number - self._num_imported: optuna.Trial(self.study, trial._trial_id)
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        }
        self._planned = list(settings.planned_trials())

    def _sampler(self, number: int) -> BaseSampler:
        """A sampler for one trial, with random numbers of its own."""
        seed = np.random.SeedSequence([self._settings.search.seed, number]).generate_state(1)[0]
        with warnings.catch_warnings():
            # `group` is marked experimental; we pin Optuna's major version.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return SAMPLERS[self._settings.search.sampler](int(seed))

    def _of_first_generation(self, known: Known) -> Known:
        """A genetic sampler sees only what belongs to a generation."""
        sampler = self.study.sampler
        if not isinstance(sampler, BaseGASampler):
            return known
        return known._replace(sampler_state={sampler._get_generation_key(): 0})

    def _as_trial(self, known: Known) -> optuna.trial.FrozenTrial:
        told = known.told if isinstance(known.told, Told) else None
        if told is not None:
            state = TrialState.COMPLETE
        else:
            state = TrialState.FAIL if known.told is None else TrialState.RUNNING
        return optuna.trial.create_trial(
            state=state,
            values=told and told.values,
            constraints=dict(told.excesses) if told else None,
            params=dict(known.values),
            distributions={n: distribution(self._settings.search_space[n]) for n in known.values},
            system_attrs={n: v for n, v in known.sampler_state.items() if n != _OF_STUDY},
        )

    def ask(self) -> Proposal:
        """The next trial."""
        self.study.sampler = self._sampler(self._num_asked)
        before = self._study_state()
        if (given := self._given(self._num_asked)) is not None:
            self.study.enqueue_trial(given)
        self._num_asked += 1
        trial = self.study.ask()
        self._open[trial.number - self._num_imported] = trial
        values: dict[str, Value] = {}
        for name in self._order:
            parameter = self._settings.search_space[name]
            if is_active(parameter, values):
                values[name] = _draw(trial, name, parameter)
        state = dict(self.study.get_trials(deepcopy=False)[trial.number].system_attrs)
        if new := {n: v for n, v in self._study_state().items() if n not in before}:
            state[_OF_STUDY] = new
        return Proposal(trial.number - self._num_imported, values, state)

    def _study_state(self) -> dict[str, Any]:
        """What samplers wrote down about the study: the genetic ones, the parents of a generation."""
        return dict(self._storage.get_study_system_attrs(self.study._study_id))

    def _given(self, number: int) -> dict[str, Value] | None:
        """The values of a trial that the sampler has no say in."""
        if number < len(self._planned):
            return self._planned[number]
        sampler = self._settings.search.sampler
        assert sampler not in ("grid", "list"), f"the {sampler} has ended"
        if sampler != "qmc":
            return None
        return low_discrepancy_point(
            self._settings.search_space, self._settings.search.seed, number - len(self._planned)
        )

    def tell(self, number: int, told: Told) -> None:
        """Reports what a trial came to."""
        trial = self._open.pop(number)
        for constraint, excess in told.excesses.items():
            trial.set_constraint(constraint, excess)
        self.study.tell(trial, list(told.values))

    def tell_failed(self, number: int) -> None:
        """Reports that a trial gave nothing, so that it is not left running in the study."""
        self.study.tell(self._open.pop(number), state=TrialState.FAIL)

    def states(self) -> Mapping[int, str]:
        """Number of each trial to its state in the study."""
        own = self.study.get_trials(deepcopy=False)[self._num_imported :]
        return {trial.number - self._num_imported: trial.state.name for trial in own}


def low_discrepancy_point(space: Mapping[str, Parameter], seed: int, index: int) -> dict[str, Value]:
    """The point of a scrambled Sobol sequence over the space, from index 0.

    Each parameter has a coordinate of its own, which is left out where the parameter does not exist.
    """
    sequence = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    if index:
        sequence.fast_forward(index)
    shares = dict(zip(space, sequence.random(1)[0], strict=True))
    values: dict[str, Value] = {}
    for name in order(space):
        if is_active(space[name], values):
            values[name] = space[name].quantile(float(shares[name]))
    return values


def distribution(parameter: Parameter) -> BaseDistribution:
    """The Optuna distribution of a parameter."""
    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice)
    if parameter.int is not None:
        return IntDistribution(*parameter.int)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log_uniform is not None)


def _draw(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    d = distribution(parameter)
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(name, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(name, d.low, d.high)
    assert isinstance(d, FloatDistribution)
    return trial.suggest_float(name, d.low, d.high, log=d.log)
