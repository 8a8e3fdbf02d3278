from __future__ import annotations

from sweep_events import ended, proposed, reported, settings_of

from orchestrator.proposals import Proposals
from orchestrator.record import SweepRecord
from orchestrator.search import TrialSearcher, known_trials, searched_trials
from trainables.ray_train import CONFIG_KEY, KNOWN_EPOCH_KEY, NAME_KEY

SETTINGS = settings_of()


def test_an_unfinished_trial_is_handed_out_with_the_last_epoch_that_it_reported() -> None:
    parameters = {"head.kind": "none", "temperature": 0.1}
    unfinished = [
        proposed("trial-0000", 0, **parameters),
        reported("trial-0000", 5, 0.5, 9.0),
        reported("trial-0000", 10, 0.6, 8.0),
        ended("trial-0000", "interrupted"),
    ]
    record = SweepRecord.of(SETTINGS, unfinished)
    proposals = Proposals(SETTINGS, known_trials(record))
    trials = searched_trials(SETTINGS, record, proposals, record.apply)
    searcher = TrialSearcher(trials, max_concurrent=2)
    record.trials["trial-0000"].status = "running"  # once its driver has taken it up
    handed_out = [searcher.suggest(str(number)) for number in range(3)]
    assert [trial and (trial[NAME_KEY], trial[KNOWN_EPOCH_KEY]) for trial in handed_out] == [
        ("trial-0000", 10),
        ("trial-0001", 0),
        None,
    ]
    assert handed_out[0] and handed_out[0][CONFIG_KEY] == unfinished[0].config
