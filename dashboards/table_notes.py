"""The notes under the paper's tables: what was trained, on what, and how far that is the paper's.

Pure; called by `dashboards.paper_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.head_results import (
    PAPER_NAMES,
    SAME_TASK,
    HeadResult,
    settings_of,
    shown_task,
    task_of,
)
from dashboards.sweep_results import EXECUTION_SETTINGS, SweepRun, TrialRun, configurations
from orchestrator.search_space import default_of, setting_names
from trainables.config import PRESETS, TrialConfig
from trainables.facts import DATASET_FACTS
from trainables.reports import TRUNCATION, TRUNCATIONS, UNTOUCHED, Task
from trainables.sentence_sources import STSB_NAME, is_snli, name_of_scored_pairs
from trainables.transformer_weights import PACKAGED_MODELS

_ALWAYS_NAMED = ("head.depth", "head.width_ratio", "temperature")
_NOT_COMPARED = EXECUTION_SETTINGS | {"seed", "preset", "data.source", "encoder_dim"}
"""The width of a transformer's output goes with its weights, which are compared."""
_OF_PAIRS = ("data.max_length", "data.distinct_sentences")
"""Settings of the data that are compared, of pairs of sentences."""
_WITHOUT_HEAD = ("head.", "warmup.")
"""Settings that have no effect where there is no head."""
_RATES = ("optimizer.head_lr", "optimizer.encoder_lr_ratio")
_JUDGED_BY: dict[Task, str] = {
    "classification": "5-NN accuracy on the validation set",
    "similarity": "Spearman correlation on the validation pairs",
}
_ITEMS: dict[Task, str] = {"classification": "training images", "similarity": "training pairs"}

Paper = Mapping[str, Any]
"""The content of paper_results.yaml."""


def truncation_notes(
    heads: Sequence[str], results: Mapping[str, HeadResult], printed: Mapping[int, Any] | None
) -> list[str]:
    """How the rows of Table 3 are ranked, and which are missing."""
    points = [(head, point) for head in heads for point in results[head].points]
    files = {TRUNCATION: [point.truncation for _, point in points]}
    if shown_task(results) == "similarity":
        files[UNTOUCHED] = [point.untouched for _, point in points]
        notes = [
            "cosine ranks test pairs by the cosine of centred coordinates, Euclidean by their distance, "
            "which on all components ranks as the whole embeddings' cosine does. untouched is the "
            "encoder as it was before training, on the first components of its own output.",
        ]
    else:
        beside = ", and the paper's Recall stands beside it" if printed else ""
        notes = [
            "dot ranks neighbours by the inner product of centred coordinates, as the paper's published "
            f"code does{beside}; cosine and Euclidean rank the same coordinates, and 5-NN is Euclidean.",
        ]
    for file, tables in files.items():
        pairs = zip(points, tables, strict=True)
        missing = [f"{head} {point.trial.name}" for (head, point), table in pairs if table is None]
        if missing:
            notes.append(f"MLflow has no {file} of {', '.join(missing)}.")
    tables = [table for tables in files.values() for table in tables if table is not None]
    sizes = {int(size) for table in tables for size in table["components"]}
    absent = [str(size) for size in TRUNCATIONS if tables and size not in sizes]
    if absent:
        notes.append(f"No rows for {', '.join(absent)} components: the embeddings have no more.")
    return notes


def untouched_notes() -> list[str]:
    """What the rows of the untouched encoder are."""
    return [
        "untouched encoder: as it was before training, so without seeds of its own. PCA to d_eff: the "
        "same on the first components of its own output, as many as d_eff of the trial in whose column "
        "it stands, ranked by cosine or by distance, whichever does better on these test pairs.",
    ]


def selection_note(task: Task) -> str:
    """Which epoch of a trial is shown."""
    return (
        f"Each trial is shown at the epoch with its best {_JUDGED_BY[task]}, of the "
        "epochs that had a final evaluation (of equals the earliest). Test metrics have no say in it."
    )


def scored_on(settings: Mapping[str, str]) -> str:
    """What the scored pairs are called; empty where that is not known."""
    return name_of_scored_pairs(_named(settings, "data.scored_pairs"))


def _named(settings: Mapping[str, str], name: str) -> str | None:
    """A setting that may be left out."""
    text = settings.get(name, "None")
    return None if text == "None" else text


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
    is_similarity = shown_task(results) == "similarity"
    whole = "all training pairs" if is_similarity else "all classes, all training images"
    amount = "; ".join(limits) or whole
    source = _named(settings, "data.source")
    place = f" from {source}" if source else ""
    encoder = settings.get("encoder", "not recorded")
    weights = settings.get("encoder_weights", "weights that are not recorded")
    start = {"imagenet": "ImageNet weights", "none": "random weights"}.get(weights, weights)
    in_use = " in use" if limits else ""
    judged = (
        f"{_scored_pairs(settings)} d_eff is of the sentences of all training pairs{in_use}, each once, "
        "the reconstruction error of those of the test pairs."
        if is_similarity
        else f"Test queries search all training images{in_use}, validation included."
    )
    notes = [
        f"Data: {settings['dataset']}{place}, {amount}. Encoder: {encoder}, started from {start}. "
        f"{judged}",
    ]
    ours = task_of(next(iter(results.values())).configuration.trials[0])
    others = [trial.name for trial in sweep.trials if task_of(trial) != ours]
    if others:
        notes.append(f"Trials on other data or from another encoder, left out: {', '.join(others)}.")
    return notes


def _scored_pairs(settings: Mapping[str, str]) -> str:
    """Which pairs judge the embeddings, a sentence."""
    if scored_on(settings):
        return f"Validation and test pairs: those of {STSB_NAME}, by its own splits."
    return f"Validation and test pairs: {settings['data.scored_pairs']}."


def _limits(settings: Mapping[str, str]) -> list[str]:
    """In words, what part of its dataset is used; empty where it is all."""
    limits = []
    facts = {str(name): fact for name, fact in DATASET_FACTS.items()}.get(settings["dataset"])
    items = _ITEMS[facts.task if facts else "classification"]
    num_classes = settings.get("data.num_classes", "None")
    if num_classes != "None" and not (
        facts and facts.num_classes and int(num_classes) >= facts.num_classes
    ):
        limits.append(
            f"only the first {num_classes}{f' of {facts.num_classes}' if facts else ''} classes"
        )
    num_items = settings.get("data.num_training_items", "None")
    known = facts.num_training_items if facts else None
    if num_items != "None" and not (known and int(num_items) >= known):
        is_whole = items == _ITEMS["similarity"] and is_snli(_named(settings, "data.source"))
        of_all = f" of {known}" if known and is_whole else ""
        limits.append(f"only the first {num_items}{of_all} {items}")
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
    compared = [name for name in setting_names() if not name.startswith("data.")]
    without_effect = ["head.kind"]
    if theirs.task == "similarity":
        compared += _OF_PAIRS
        # The paper names the two rates, not their ratio; without a head there is one only.
        without_effect += _RATES if settings["head.kind"] == "none" else _RATES[1:]
        texts += [*_differing_pairs(settings), *_differing_rate(settings, theirs)]
    for name in compared:
        no_effect = settings["head.kind"] == "none" and name.startswith(_WITHOUT_HEAD)
        if name in _NOT_COMPARED or name in without_effect or no_effect:
            continue
        ours, paper = settings.get(name, "not recorded"), str(default_of(theirs, name))
        ours = PACKAGED_MODELS.get(ours, ours)
        if _readable(ours) != _readable(paper):
            texts.append(f"{name} {_readable(ours)} (paper: {_readable(paper)})")
    return texts


def _differing_pairs(settings: Mapping[str, str]) -> list[str]:
    if scored_on(settings):
        return []
    return [f"scored on {settings['data.scored_pairs']}, which may be other pairs (paper: {STSB_NAME})"]


def _differing_rate(settings: Mapping[str, str], theirs: TrialConfig) -> list[str]:
    head_lr, ratio = (float(settings[name]) for name in _RATES)
    ours, paper = (f"{rate:.6g}" for rate in (head_lr * ratio, theirs.optimizer.encoder_lr))
    return [] if ours == paper else [f"encoder learning rate {ours} (paper: {paper})"]


def _readable(value: str) -> str:
    """0.05 for 0.05000000000000001, and 2 for 2.0."""
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value


def paper_notes(
    differences: Mapping[str, Sequence[str]],
    results: Mapping[str, HeadResult],
    paper: Paper | None,
    data_order: str,
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
            text if len(heads) == len(results) else f"{text} for {', '.join(heads)}"
            for text, heads in differences.items()
        ]
        notes.append(
            "These are not the paper's settings, so its numbers stand beside ours for orientation only: "
            f"{'; '.join(parts)}."
        )
    else:
        notes.append("All settings that act on the result are the paper's, as this project reads it.")
    if shown_task(results) == "similarity":
        return notes + _source_notes(settings_of(results))
    return [*notes, _split_note(data_order)]


def _source_notes(settings: Mapping[str, str]) -> list[str]:
    source = _named(settings, "data.source")
    if is_snli(source):
        return []
    return [f"Training pairs are read from {source}: nothing says that they are all of SNLI."]


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
