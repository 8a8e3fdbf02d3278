"""Two fronts in numbers: closed forms, and a slow reference for the test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from compared_stories import Values, story
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from stories import digits_settings, opening

from dashboards.comparison import Comparison, compare, coverage, seed_hypervolumes, seed_test
from dashboards.comparison_words import reference_words, seeds_needed, verdict
from dashboards.sweep_story import SweepStory
from orchestrator.errors import UserError
from orchestrator.events import SweepStarted

REFERENCE = {"knn_accuracy": 0.0, "d_eff": 128.0}
points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6)


def compared(a: SweepStory, b: SweepStory) -> Comparison:
    return compare((a, b), ("A", "B"))


def test_hypervolumes_and_coverage_are_those_of_the_closed_form() -> None:
    found = compared(story((0.5, 28.0), (0.25, 8.0)), story((0.5, 28.0), (0.75, 78.0)))
    # Rectangles: 0.5 x 100 + 0.25 x 20; and 0.5 x 100 + 0.25 x 50.
    assert found.hypervolumes == pytest.approx((55.0, 62.5))
    assert found.coverage == (0.5, 0.5)  # the equal points cover each other
    assert found.best == {"knn_accuracy": (0.5, 0.75), "d_eff": (8.0, 28.0)}
    assert (found.reference, found.num_points, found.warnings) == (REFERENCE, (2, 2), RUNNING)


RUNNING = ["A still runs, or was killed.", "B still runs, or was killed."]


def test_coverage_is_not_symmetrical_and_of_nothing_unknown() -> None:
    assert coverage([(1, 1)], [(1, 2), (2, 1), (0, 5)]) == pytest.approx(2 / 3)
    assert coverage([(1, 2), (2, 1), (0, 5)], [(1, 1)]) == 0.0
    assert coverage([], [(1, 1)]) == 0.0
    assert math.isnan(coverage([(1, 1)], []))


@given(points, points)
def test_coverage_is_what_its_definition_counts(by: list[Values], of: list[Values]) -> None:
    covered = [any(all(x <= y for x, y in zip(a, b, strict=True)) for a in by) for b in of]
    assert coverage(by, of) == pytest.approx(sum(covered) / len(of))


def test_sweeps_with_other_reference_points_share_the_worse_of_each() -> None:
    settings = digits_settings("reference_point={knn_accuracy: 0.25, d_eff: 228}")
    found = compared(story((0.5, 28.0)), story((0.5, 28.0), settings=settings))
    assert found.reference == {"knn_accuracy": 0.0, "d_eff": 228.0}
    assert found.hypervolumes == pytest.approx((100.0, 100.0))
    assert "the worse of the sweeps' reference points, which differ" in reference_words(found)


def test_a_reference_that_is_not_known_is_the_worst_of_the_front() -> None:
    settings = digits_settings("reference_point={d_eff: 1.5 * baseline}", "constraints=[]")
    waiting = story(settings=settings)
    waiting.record.front.reference = None
    found = compared(story((0.5, 28.0)), waiting)
    assert found.reference == REFERENCE
    assert (found.hypervolumes[1], found.num_points[1]) == (0.0, 0)
    assert math.isnan(found.coverage[1]) and math.isnan(found.best["d_eff"][1])
    assert "B has no point." in found.warnings


def test_each_further_seed_gives_the_hypervolume_of_the_whole_front() -> None:
    seeds = {
        0: [(0.5, 28.0), (0.5, 78.0), None, (0.5, 28.0)],
        1: [(0.25, 8.0), (0.25, 28.0), (0.25, 28.0)],  # the fourth is not done
    }
    found = seed_hypervolumes(story((0.5, 28.0), (0.25, 8.0), seeds=seeds).record, REFERENCE)
    assert found == pytest.approx([55.0, 37.5, 25.0])


def test_three_seeds_against_three_can_show_nothing_and_that_is_said() -> None:
    better = story((0.75, 28.0), seeds={0: [(0.75, 28.0), (0.75, 27.0), (0.75, 26.0)]})
    worse = story((0.5, 28.0), seeds={0: [(0.5, 28.0), (0.5, 27.0), (0.5, 26.0)]})
    found = compared(better, worse)
    assert found.test is not None
    assert (found.test.p, found.test.smallest_p) == pytest.approx((0.1, 0.1))
    assert found.test.superiority == 1.0
    text = " ".join(verdict(found))
    assert "exact: p = 0.1" in text and "50.0% larger" in text
    assert "nothing could have been significant at 0.05; 4 against 4 can" in text
    assert "each search was run once" in text


@pytest.mark.parametrize(("worse", "word"), [(0.5, "is significant"), (0.75, "is not significant")])
def test_four_seeds_against_four_are_enough(worse: float, word: str) -> None:
    seeds = [(0.75, 28.0 - n) for n in range(4)]
    others = [(worse, 28.0 - n) for n in range(4)]
    a = story((0.75, 28.0), seeds={0: seeds})
    found = compared(a, story((worse, 28.0), seeds={0: others}))
    assert f"The difference {word} at 0.05." in verdict(found)
    assert seeds_needed() == 4


def test_without_confirmation_it_is_said_what_to_do() -> None:
    a = story((0.5, 28.0), seeds={0: [(0.5, 28.0)]})
    found = compared(a, story((0.5, 28.0)))
    assert found.test is None
    (sentence,) = verdict(found)
    assert sentence.startswith(
        "Nothing is said about significance: under no further seed was the front of B trained"
    )
    assert "--set confirm.seeds=4" in sentence and "confirm: {seeds: 4}" in sentence


samples = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=4)


@examples(max_examples=40, deadline=None)
@given(samples, samples)
def test_p_is_what_counting_all_permutations_gives(a: list[float], b: list[float]) -> None:
    values, size = np.array([*a, *b]), len(a)
    differences = []
    for chosen in itertools.combinations(range(len(values)), size):
        is_first = np.isin(np.arange(len(values)), chosen)
        differences.append(values[is_first].mean() - values[~is_first].mean())
    found, all_of_them = np.mean(a) - np.mean(b), np.array(differences)
    tails = [(all_of_them >= found - 1e-9).mean(), (all_of_them <= found + 1e-9).mean()]
    expected = min(1.0, 2 * min(tails))
    assert seed_test(a, b).p == pytest.approx(expected)
    assert seed_test(a, b).p >= seed_test(a, b).smallest_p - 1e-12


def test_superiority_counts_ties_half() -> None:
    assert seed_test([1.0, 2.0], [1.0, 3.0]).superiority == pytest.approx(0.375)


def test_sweeps_with_other_objectives_are_refused() -> None:
    other = digits_settings("objectives={recall_at_1: max, d_eff: min}", "pick=knee")
    law = r"A has the objectives .* B has recall_at_1 max, d_eff min: .* with the same objectives"
    with pytest.raises(UserError, match=law):
        compared(story((0.5, 28.0)), story((0.5, 28.0), settings=other))


def test_sweeps_on_other_tasks_are_refused() -> None:
    with pytest.raises(UserError, match=r"A is about classification, B about similarity.*the same task"):
        compared(story((0.5, 28.0)), story((0.5, 28.0), more={"dataset": "snli"}))


def test_other_data_encoders_and_constraints_are_warned_of() -> None:
    constrained = digits_settings("pick=null", "constraints=[knn_accuracy >= 0.9]")
    other = story((0.5, 28.0), settings=constrained, more={"encoder": "resnet8", "dataset": "cifar10"})
    digest = "data_digest of dataset digits"
    first = story((0.5, 28.0))
    first.environment, other.environment = {digest: "1"}, {digest: "2"}
    assert compared(first, other).warnings == [
        *RUNNING,
        "B has no point that holds its constraints; what is nearest is shown.",
        "Their constraints differ: none in A, knn_accuracy >= 0.9 in B.",
        "dataset differs: digits in A, cifar10 in B.",
        "encoder differs: digits_cnn in A, resnet8 in B.",
        "The data differ although they are named alike: dataset digits.",
    ]


def test_a_sweep_that_has_begun_only_is_compared_all_the_same() -> None:
    events = opening(digits_settings())
    assert isinstance(events[0], SweepStarted)
    found = compared(SweepStory(events), story((0.5, 28.0)))
    assert (found.num_trials, found.hypervolumes[0]) == ((0, 1), 0.0)
