from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sweep_events import confirming, ended, proposed, reported, retried, settings_of, started

from orchestrator import search
from orchestrator.ask_and_tell import Proposal, Told
from orchestrator.events import TrialEnded, TrialProposed
from orchestrator.proposals import Proposals
from orchestrator.record import SweepRecord
from orchestrator.retries import RetryQueue
from orchestrator.search import (
    ProposalListener,
    TrialSearcher,
    confirming_trials,
    searched_trials,
)
from orchestrator.told import known_trials
from orchestrator.trials import Trial
from trainables.ray_train import CONFIG_KEY, KNOWN_EPOCH_KEY, NAME_KEY

SETTINGS = settings_of()


def searcher_of(
    trials: Iterator[Trial | None],
    max_concurrent: int,
    retries: RetryQueue | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> TrialSearcher:
    queue = RetryQueue() if retries is None else retries
    return TrialSearcher(trials, lambda: max_concurrent, queue, is_stopped)


def test_an_unfinished_trial_is_handed_out_with_the_last_epoch_that_it_reported() -> None:
    parameters = {"head.kind": "none", "temperature": 0.1}
    unfinished = [
        proposed("trial-0000", 0, **parameters),
        reported("trial-0000", 5, 0.5, 9.0),
        reported("trial-0000", 10, 0.6, 8.0),
        ended("trial-0000", "interrupted"),
    ]
    record = SweepRecord.of(SETTINGS, unfinished)
    proposals = Proposals(SETTINGS, known_trials(SETTINGS, unfinished))
    trials = searched_trials(SETTINGS, record, proposals.ask, record.apply)
    searcher = searcher_of(trials, 2)
    record.trials["trial-0000"].status = "running"  # once its driver has taken it up
    handed_out = [searcher.suggest(str(number)) for number in range(3)]
    assert [trial and (trial[NAME_KEY], trial[KNOWN_EPOCH_KEY]) for trial in handed_out] == [
        ("trial-0000", 10),
        ("trial-0001", 0),
        None,
    ]
    assert handed_out[0] and handed_out[0][CONFIG_KEY] == unfinished[0].config


def test_a_study_is_told_again_what_it_was_told_before_the_baseline_was_known() -> None:
    settings = settings_of(
        constraints=["knn_accuracy >= 0.9 * baseline"], first_trials=[{"head.kind": "none"}]
    )
    parameters = {"head.kind": "none", "temperature": 0.1}
    history = [
        proposed("trial-0000", 0, **parameters),
        proposed("trial-0001", 1, **parameters),
        reported("trial-0001", 1, 0.5, 3.0),
        ended("trial-0001"),
        reported("trial-0000", 1, 0.8, 9.0),
        ended("trial-0000"),
        proposed("trial-0002", 2, **parameters),
        reported("trial-0002", 1, 0.36, 3.0),
        ended("trial-0002"),
    ]
    told = [known.told for known in known_trials(settings, history)]
    assert [isinstance(t, Told) and list(t.values) for t in told] == [
        [0.8, 9.0],
        [0.5, 3.0],
        [0.36, 3.0],
    ]
    excesses = [t.excesses[settings.constraints[0]] for t in told if isinstance(t, Told)]
    assert excesses == [pytest.approx(-1 / 9), 0.0, pytest.approx(0.5)]
    study = Proposals(settings, known_trials(settings, history)).study
    assert [
        trial.number for trial in study.trials if all(v <= 0 for v in trial.constraints.values())
    ] == [
        0,
        1,
    ]


CONFIRMED = settings_of(confirm={"seeds": 2})
SEARCHED = [
    proposed("trial-0000", 0, **{"head.kind": "none", "temperature": 0.1}),
    reported("trial-0000", 5, 0.5, 9.0),
    ended("trial-0000"),
]


def test_the_front_is_confirmed_by_its_configuration_under_further_seeds() -> None:
    record = SweepRecord.of(CONFIRMED, SEARCHED)
    trials = list(confirming_trials(CONFIRMED, record, record.apply))
    assert [trial.name for trial in trials] == ["trial-0000-seed-43", "trial-0000-seed-44"]
    base = record.trials["trial-0000"]
    for seed, trial in zip((43, 44), trials, strict=True):
        assert trial.config == {**base.config, "seed": seed}
        assert (trial.confirms, trial.parameters, trial.number) == (base.name, base.parameters, 0)


def test_confirming_goes_on_where_a_driver_was_killed() -> None:
    first = "trial-0000-seed-43"
    begun = [confirming("trial-0000", 43), started(first), reported(first, 5, 0.5, 9.0)]
    record = SweepRecord.of(CONFIRMED, [*SEARCHED, *begun])
    emitted: list[TrialProposed] = []

    def emit(event: object) -> None:
        assert isinstance(event, TrialProposed)
        emitted.append(event)
        record.apply(event)

    searcher = searcher_of(confirming_trials(CONFIRMED, record, emit), 2)
    handed_out = [searcher.suggest(str(number)) for number in range(2)]
    assert [trial and (trial[NAME_KEY], trial[KNOWN_EPOCH_KEY]) for trial in handed_out] == [
        (first, 5),
        ("trial-0000-seed-44", 0),
    ]
    assert [event.trial for event in emitted] == ["trial-0000-seed-44"]


def test_optuna_hears_nothing_of_trials_that_confirm() -> None:
    name = "trial-0000-seed-43"
    end: TrialEnded = ended(name)
    history = [*SEARCHED, confirming("trial-0000", 43), reported(name, 5, 0.9, 3.0), end]
    record = SweepRecord.of(CONFIRMED, history)
    known = known_trials(CONFIRMED, history)
    assert [k.told for k in known] == [Told([0.5, 9.0], {})]
    proposals = Proposals(CONFIRMED, known)
    ProposalListener(proposals)(end, record)
    assert proposals.states() == {0: "COMPLETE"}
    assert proposals.ask().number == 1


class LateProposals:
    """Proposals that are there when they have been looked for so many times."""

    def __init__(self, num_looks: int) -> None:
        self._proposals = Proposals(SETTINGS)
        self._num_looks = num_looks
        self.num_looked = 0

    def ask(self) -> Proposal | None:
        self.num_looked += 1
        return self._proposals.ask() if self.num_looked % self._num_looks == 0 else None


def test_a_trial_that_is_not_there_yet_is_asked_for_again() -> None:
    record, late = SweepRecord.of(SETTINGS), LateProposals(3)
    searcher = searcher_of(searched_trials(SETTINGS, record, late.ask, record.apply), 2)
    first = searcher.suggest("0")  # waits, since nothing is live
    assert first and first[NAME_KEY] == "trial-0000"
    record.apply(started("trial-0000"))
    assert [searcher.suggest("1"), searcher.suggest("1")] == [None, None]
    second = searcher.suggest("1")
    assert second and second[NAME_KEY] == "trial-0001"
    assert searcher.suggest("2") is None  # no slot is free, so nothing is asked for
    assert late.num_looked == 6


def test_trials_that_fit_at_once_are_awaited_before_the_first_starts() -> None:
    record, late = SweepRecord.of(SETTINGS), LateProposals(4)
    searcher = searcher_of(searched_trials(SETTINGS, record, late.ask, record.apply), 3)
    assert all(searcher.suggest(str(number)) for number in range(3))
    assert list(record.trials) == ["trial-0000", "trial-0001", "trial-0002"]


def test_nothing_is_awaited_for_long_while_a_trial_waits_for_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = LateProposals(10**6)
    begun = [proposed("trial-0000", 0, **{"head.kind": "none", "temperature": 0.1})]
    record = SweepRecord.of(SETTINGS, begun)
    searcher = searcher_of(searched_trials(SETTINGS, record, late.ask, record.apply), 2)
    assert searcher.suggest("0")
    monkeypatch.setattr(search, "_TUNE_WAITS_S", 0.0)
    assert searcher.suggest("1") is None
    assert late.num_looked == 1


def test_a_sweep_that_is_stopped_awaits_no_proposal() -> None:
    record, late = SweepRecord.of(SETTINGS), LateProposals(10**6)
    trials = searched_trials(SETTINGS, record, late.ask, record.apply)
    stops = iter([False, False, True, True])
    searcher = searcher_of(trials, 2, is_stopped=lambda: next(stops))
    assert searcher.suggest("0") == TrialSearcher.FINISHED
    assert late.num_looked == 3 and not record.trials


def test_a_trial_that_is_tried_again_comes_first_and_with_what_is_known_of_it() -> None:
    record, retries = SweepRecord.of(SETTINGS), RetryQueue()
    trials = searched_trials(SETTINGS, record, Proposals(SETTINGS).ask, record.apply)
    searcher = searcher_of(trials, 2, retries)
    assert [bool(searcher.suggest(str(number))) for number in range(3)] == [True, True, False]
    name = "trial-0000"
    for event in (started(name), reported(name, 5, 0.5, 9.0), retried(name)):
        record.apply(event)
    retries.put(record.trials[name], 0.0)
    again = searcher.suggest("3")
    assert again and (again[NAME_KEY], again[KNOWN_EPOCH_KEY]) == (name, 5)
    assert searcher.suggest("4") is None


def test_a_search_is_not_over_while_a_trial_waits_for_its_next_attempt() -> None:
    settings = settings_of(search={"trials": 1})
    record, retries, now = SweepRecord.of(settings), RetryQueue(lambda: now[0]), [0.0]
    trials = searched_trials(settings, record, Proposals(settings).ask, record.apply)
    searcher = searcher_of(trials, 2, retries)
    assert searcher.suggest("0")
    record.apply(retried("trial-0000"))
    retries.put(record.trials["trial-0000"], 5.0)
    assert searcher.suggest("1") is None
    now[0] = 5.0
    again = searcher.suggest("2")
    assert again and again[NAME_KEY] == "trial-0000"
    assert searcher.suggest("3") is None
    record.apply(ended("trial-0000"))
    assert searcher.suggest("4") == TrialSearcher.FINISHED


def test_trials_are_handed_out_as_the_cluster_grows_and_shrinks() -> None:
    record, room = SweepRecord.of(SETTINGS), 0
    trials = searched_trials(SETTINGS, record, Proposals(SETTINGS).ask, record.apply)
    searcher = TrialSearcher(trials, lambda: room, RetryQueue())
    given = []
    for room in (0, 1, 3, 3, 3, 1):  # noqa: B007 - what the lambda sees
        given.append(bool(searcher.suggest("0")))
    assert given == [False, True, True, True, False, False]
