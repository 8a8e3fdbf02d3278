"""The notes under the paper's tables: what was trained, on what, and how far that is the paper's.

Pure; called by `dashboards.paper_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.head_results import PAPER_NAMES, SAME_TASK, HeadResult, settings_of, task_of
from dashboards.sweep_results import EXECUTION_SETTINGS, SweepRun, TrialRun, configurations
from orchestrator.search_space import default_of, setting_names
from trainables.config import DATASET_FACTS, PRESETS, TrialConfig
from trainables.reports import TRUNCATION, TRUNCATIONS

_ALWAYS_NAMED = ("head.depth", "head.width_ratio", "temperature")
_NOT_COMPARED = EXECUTION_SETTINGS | {"seed", "preset", "data.source"}
_WITHOUT_HEAD = ("head.", "warmup.")
"""Settings that have no effect where there is no head."""

Paper = Mapping[str, Any]
"""The content of paper_results.yaml."""


def truncation_notes(
    heads: Sequence[str], results: Mapping[str, HeadResult], printed: Mapping[int, Any] | None
) -> list[str]:
    """How the rows of Table 3 are ranked, and which are missing."""
    points = [(head, point) for head in heads for point in results[head].points]
    tables = [point.truncation for _, point in points if point.truncation is not None]
    beside = ", and the paper's Recall stands beside it" if printed else ""
    notes = [
        "dot ranks neighbours by the inner product of centred coordinates, as the paper's published "
        f"code does{beside}; cosine and Euclidean rank the same coordinates, and 5-NN is Euclidean.",
    ]
    missing = [f"{head} {point.trial.name}" for head, point in points if point.truncation is None]
    if missing:
        notes.append(f"MLflow has no {TRUNCATION} of {', '.join(missing)}.")
    sizes = {int(size) for table in tables for size in table["components"]}
    absent = [str(size) for size in TRUNCATIONS if tables and size not in sizes]
    if absent:
        notes.append(f"No rows for {', '.join(absent)} components: the embeddings have no more.")
    return notes


def sweep_notes(sweep: SweepRun) -> list[str]:
    """Which sweep it is, and whether there is more to come."""
    notes = [f"Sweep {sweep.name}: {sweep.status}, started {sweep.started:%Y-%m-%d %H:%M} UTC."]
    if sweep.num_of_this_name > 1:
        notes.append(f"{sweep.num_of_this_name} sweeps have this name; this is the newest.")
    if sweep.status == "running":
        notes.append("It is still running, or was killed: this is what there is so far.")
    return notes


def task_notes(sweep: SweepRun, results: Mapping[str, HeadResult]) -> list[str]:
    """What was trained on what, and which trials were on something else."""
    settings = settings_of(results)
    limits = _limits(settings)
    amount = "; ".join(limits) or "all classes, all training images"
    source = settings.get("data.source", "None")
    place = "" if source == "None" else f" from {source}"
    encoder = settings.get("encoder", "not recorded")
    weights = settings.get("encoder_weights", "weights that are not recorded")
    start = {"imagenet": "ImageNet weights", "none": "random weights"}.get(weights, weights)
    notes = [
        f"Data: {settings['dataset']}{place}, {amount}. Encoder: {encoder}, started from {start}. "
        f"Test queries search all training images{' in use' if limits else ''}, validation included.",
    ]
    shown_task = task_of(next(iter(results.values())).configuration.trials[0])
    others = [trial.name for trial in sweep.trials if task_of(trial) != shown_task]
    if others:
        notes.append(f"Trials on other data or from another encoder, left out: {', '.join(others)}.")
    return notes


def _limits(settings: Mapping[str, str]) -> list[str]:
    """In words, what part of its dataset is used; empty where it is all."""
    limits = []
    facts = {str(name): fact for name, fact in DATASET_FACTS.items()}.get(settings["dataset"])
    num_classes = settings.get("data.num_classes", "None")
    if num_classes != "None" and not (
        facts and facts.num_classes and int(num_classes) >= facts.num_classes
    ):
        limits.append(
            f"only the first {num_classes}{f' of {facts.num_classes}' if facts else ''} classes"
        )
    num_items = settings.get("data.num_training_items", "None")
    if num_items != "None":
        limits.append(f"only the first {num_items} training images")
    return limits


def differences(results: Mapping[str, HeadResult]) -> dict[str, list[str]]:
    """What is not as in the paper's runs on this dataset: in words, with the heads that it is true of.

    Empty where all is, and where the paper has no runs on the dataset.
    """
    preset = f"paper_{settings_of(results)['dataset']}"
    if preset not in PRESETS:
        return {}
    theirs = TrialConfig.model_validate({"preset": preset})
    found: dict[str, list[str]] = {}
    for head, result in results.items():
        for text in _differing_settings(result.configuration.settings, theirs):
            found.setdefault(text, []).append(head)
    return found


def _differing_settings(settings: Mapping[str, str], theirs: TrialConfig) -> list[str]:
    texts = _limits(settings)
    for name in setting_names():
        no_effect = settings["head.kind"] == "none" and name.startswith(_WITHOUT_HEAD)
        if name in _NOT_COMPARED or name.startswith("data.") or name == "head.kind" or no_effect:
            continue
        ours, paper = settings.get(name, "not recorded"), str(default_of(theirs, name))
        if _readable(ours) != _readable(paper):
            texts.append(f"{name} {_readable(ours)} (paper: {_readable(paper)})")
    return texts


def _readable(value: str) -> str:
    """0.05 for 0.05000000000000001, and 2 for 2.0."""
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value


def paper_notes(
    differences: Mapping[str, Sequence[str]], num_heads: int, paper: Paper | None, data_order: str
) -> list[str]:
    """Where the paper's numbers are from, and whether they may be compared."""
    if paper is None:
        return []
    names = ", ".join(f"{ours} is its {theirs}" for ours, theirs in PAPER_NAMES.items())
    notes = [
        f"The paper: {paper['source']}; {paper['seeds']} run each, without a spread. {names}.",
    ]
    if differences:
        parts = [
            text if len(heads) == num_heads else f"{text} for {', '.join(heads)}"
            for text, heads in differences.items()
        ]
        notes.append(
            "These are not the paper's settings, so its numbers stand beside ours for orientation only: "
            f"{'; '.join(parts)}."
        )
    else:
        notes.append("All settings that act on the result are the paper's, as this project reads it.")
    return [*notes, _split_note(data_order)]


def _split_note(data_order: str) -> str:
    if data_order == "original":
        return "Training and validation images are those of the paper's split, or a part of them."
    known = "may be" if data_order else "is not recorded and may be"
    return (
        f"The order of the source's rows {known} another than the original archive's, and then other "
        "images validate than in the paper; trial.data.source: torchvision has its order."
    )


def choice_note(sweep: SweepRun, results: Mapping[str, HeadResult]) -> str:
    """Which of the sweep's configurations are shown."""
    num_others = len(configurations(sweep.trials)) - len(results)
    others = f" The sweep has {num_others} more, which are not shown." if num_others else ""
    return f"Of each head the configuration that was proposed first.{others}"


def head_notes(head: str, result: HeadResult, sweep: SweepRun) -> list[str]:
    """One head kind: configuration, seeds, epochs, and what is not in the table."""
    notes = [_caption(head, result, _varied(sweep.trials))]
    evaluated = {point.trial.seed for point in result.points}
    missing = [trial for trial in result.configuration.trials if trial.seed not in evaluated]
    if missing:
        names = ", ".join(f"{trial.name} (seed {trial.seed}, {trial.status})" for trial in missing)
        notes.append(
            f"{head}: without a final evaluation, so not in the table: {names}. A sweep evaluates every "
            "trial with evaluation.points: best; with front it leaves out seeds that did worse."
        )
    better = [f"{p.trial.name} epoch {p.better_epoch}" for p in result.points if p.better_epoch]
    if better:
        notes.append(f"{head}: better on validation, but not evaluated: {', '.join(better)}.")
    open_or_cut = [p.trial for p in result.points if p.trial.status != "completed"]
    if open_or_cut:
        names = ", ".join(f"{trial.name} ({trial.status})" for trial in open_or_cut)
        notes.append(f"{head}: in the table, though the trial was not completed: {names}.")
    if result.repeats:
        names = ", ".join(trial.name for trial in result.repeats)
        notes.append(f"{head}: left out, since they repeat a seed: {names}.")
    return notes


def _caption(head: str, result: HeadResult, varied: set[str]) -> str:
    """Which configuration, which seeds, which epochs."""
    named = {
        name: value
        for name, value in result.configuration.settings.items()
        if name in _ALWAYS_NAMED or (name in varied and name not in SAME_TASK and name != "head.kind")
    }
    settings = ", ".join(f"{name} {_readable(value)}" for name, value in named.items())
    points = ", ".join(f"{p.trial.seed} ({p.trial.name} epoch {p.epoch})" for p in result.points)
    seeds = f"seed{'s' if len(result.points) > 1 else ''} {points}" if points else "not evaluated"
    return f"{head}: {settings}; {seeds}."


def _varied(trials: Sequence[TrialRun]) -> set[str]:
    """The settings that have more than one value in the sweep."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial.settings.items():
            values.setdefault(name, set()).add(value)
    return {name for name, different in values.items() if len(different) > 1}
