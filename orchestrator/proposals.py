"""Optuna's ask and tell over our search space. Knows nothing of Ray, so a dry run uses it too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from orchestrator.search_space import Parameter, Value, complete, is_active, order
from orchestrator.settings import SamplerKind, SweepSettings
from trainables.reports import Direction

SAMPLERS: dict[SamplerKind, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


DIRECTIONS: dict[Direction, StudyDirection] = {
    "max": StudyDirection.MAXIMIZE,
    "min": StudyDirection.MINIMIZE,
}


class Proposals:
    """The study of one sweep.

    Every trial that was asked for must be told of once, by `tell` or `tell_failed`.
    """

    def __init__(self, settings: SweepSettings) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._order = order(settings.search_space)
        with warnings.catch_warnings():
            # `group` is marked experimental; we pin Optuna's major version.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = SAMPLERS[settings.search.sampler](settings.search.seed)
        self.study = optuna.create_study(
            study_name=settings.name,
            sampler=sampler,
            directions=[DIRECTIONS[direction] for direction in settings.objectives.values()],
        )
        for given in settings.first_trials:
            self.study.enqueue_trial(complete(settings.search_space, settings.trial, given))

    def ask(self) -> tuple[int, dict[str, Value]]:
        """The next trial's number and the values of the parameters that exist in it."""
        trial = self.study.ask()
        values: dict[str, Value] = {}
        for name in self._order:
            parameter = self._settings.search_space[name]
            if is_active(parameter, values):
                values[name] = _draw(trial, name, parameter)
        return trial.number, values

    def tell(self, number: int, values: Sequence[float]) -> None:
        """Reports a trial's objective values, in the objectives' order and own directions."""
        self.study.tell(number, list(values))

    def tell_failed(self, number: int) -> None:
        """Reports that a trial gave nothing, so that it is not left running in the study."""
        self.study.tell(number, state=TrialState.FAIL)

    def states(self) -> Mapping[int, str]:
        """Number of each trial to its state in the study."""
        return {trial.number: trial.state.name for trial in self.study.get_trials(deepcopy=False)}


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
