"""What is wrong between parts of a sweep's settings that are each well-formed. Pure, torch-free.

Called by `orchestrator.settings`, which says it with the lines of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.constraints import parse_bound, parse_constraint
from orchestrator.pick import needs_baseline, parse_pick
from orchestrator.search_space import (
    Value,
    check,
    combinations,
    complete,
    default_of,
    setting_names,
    to_trial_config,
)
from orchestrator.settings_sentences import nearest, sentence
from orchestrator.yaml_source import Location
from trainables.config import CROSS_CHECKED
from trainables.facts import DATASET_FACTS
from trainables.reports import METRIC_NAMES_IN_SHORT, METRICS, SELECTED_BY

if TYPE_CHECKING:
    from orchestrator.settings import SweepSettings

Faults = list[tuple[Location, str]]
"""Each a place in the file, and what is wrong there."""


def inconsistencies(settings: SweepSettings) -> Faults:
    """Everything found wrong, each with its place."""
    faults = _unfit_parameters(settings)
    if not faults:
        faults += [
            (("search_space", *fault.location), fault.message) for fault in check(settings.search_space)
        ]
    faults += _unfit_sampler(settings)
    faults += _unfit_objectives(settings)
    faults += _unfit_expressions(settings)
    faults += _unfit_early_stopping(settings)
    faults += _unfit_resources(settings)
    faults += _unfit_confirmation(settings)
    if not faults:
        faults += _missing_baseline(settings)
        faults += _unfit_first_trials(settings) or _unfit_combinations(settings)
    return faults


def _unfit_parameters(settings: SweepSettings) -> Faults:
    faults: Faults = []
    if not settings.search_space:
        faults.append((("search_space",), "the search space is empty; name at least one parameter"))
    for name, parameter in settings.search_space.items():
        location = ("search_space", name)
        if name == "preset":
            text = "a preset does not vary; name it under trial, and vary the settings it stands for"
            faults.append((location, text))
            continue
        tasks = {facts.task for known, facts in DATASET_FACTS.items() if known in parameter.extremes()}
        if name == "dataset" and len(tasks) > 1:
            text = "images and sentences are judged by different metrics; give each a sweep of its own"
            faults.append((location, text))
            continue
        try:
            default_of(settings.trial, name)
        except KeyError:
            text = f"{name!r} is not a setting of a trial{nearest(name, setting_names())}"
            faults.append((location, text))
            continue
        for value in parameter.extremes():
            try:
                to_trial_config(settings.trial, {name: value})
            except ValidationError as error:
                # Without a place of its own it is about several settings: see _unfit_combinations.
                items = [item for item in error.errors() if item["loc"]]
                text = [sentence(item, name.split("."), name) for item in items[:1]]
                faults += [((*location, parameter.kind), line) for line in text]
    return faults


def _unfit_sampler(settings: SweepSettings) -> Faults:
    sampler = settings.search.sampler
    if sampler == "list" and not settings.first_trials:
        return [(("search", "sampler"), "list tries first_trials alone, and there are none; name some")]
    for name, parameter in settings.search_space.items():
        if sampler == "gp" and parameter.when:
            text = (
                f"gp takes no parameter with a `when`, as {name} has; choose tpe, or remove the `when`"
            )
            return [(("search", "sampler"), text)]
        if sampler == "grid" and parameter.kind in ("uniform", "log_uniform"):
            text = f"a grid takes no {parameter.kind}; give a choice of values, or another sampler"
            return [(("search_space", name, parameter.kind), text)]
    return []


def _unfit_objectives(settings: SweepSettings) -> Faults:
    faults: Faults = []
    if len(settings.objectives) < 1:
        metric = SELECTED_BY[settings.trial.task]
        faults.append((("objectives",), f"name at least one objective, such as {metric}: max"))
    for name, direction in settings.objectives.items():
        if name not in METRICS:
            text = f"no metric is called {name!r}{nearest(name, METRICS, METRIC_NAMES_IN_SHORT)}"
            faults.append((("objectives", name), text))
        elif fault := _metric_of_another_task(settings, name):
            faults.append((("objectives", name), fault))
        elif METRICS[name].worst is None and name not in settings.reference_point:
            text = f"{name} has no worst value of its own; give one under reference_point"
            faults.append((("objectives", name), text))
        elif METRICS[name].direction != direction and name not in settings.reference_point:
            text = (
                f"{name} is better the {'larger' if direction == 'min' else 'smaller'} it is, got "
                f"{direction}; if you mean it, give its worst value under reference_point"
            )
            faults.append((("objectives", name), text))
    for name in settings.reference_point:
        if name not in settings.objectives:
            text = f"{name!r} is not an objective{nearest(name, settings.objectives)}"
            faults.append((("reference_point", name), text))
    return faults


def _unfit_expressions(settings: SweepSettings) -> Faults:
    """The constraints, the pick and the bounds of the reference point that cannot be read."""
    faults: Faults = []
    for place, text, read in _expressions(settings):
        try:
            read()
        except ValueError as error:
            faults.append((place, str(error)))
            continue
        words = re.findall(r"\w+", text)
        of_another = (_metric_of_another_task(settings, word) for word in words if word in METRICS)
        faults += [(place, fault) for fault in of_another if fault][:1]
    return faults


def _missing_baseline(settings: SweepSettings) -> Faults:
    """The expressions that name a baseline where none is tried first."""
    firsts = [complete(settings.search_space, settings.trial, given) for given in settings.first_trials]
    fixed = settings.trial.head.kind
    if any(values.get("head.kind", fixed) == "none" for values in firsts):
        return []
    text = (
        "it names the baseline, which is the first trial with head.kind none, and first_trials has "
        "none; add {head.kind: none} there"
    )
    return [(place, text) for place, _, read in _expressions(settings) if read()]


def _expressions(settings: SweepSettings) -> Iterator[tuple[Location, str, Callable[[], bool]]]:
    """Place and text of each expression, and what reads it and says whether it names the baseline."""
    for index, text in enumerate(settings.constraints):
        yield ("constraints", index), text, lambda text=text: parse_constraint(text).needs_baseline
    if settings.pick is not None:
        yield ("pick",), settings.pick, lambda: needs_baseline(parse_pick(settings.pick or ""))
    for name, value in settings.reference_point.items():
        if isinstance(value, str):
            yield (
                ("reference_point", name),
                value,
                lambda name=name, text=value: bool(parse_bound(text, name).names.of_baseline),
            )


def _unfit_early_stopping(settings: SweepSettings) -> Faults:
    faults: Faults = []
    rule = settings.early_stopping
    names = setting_names()
    for index, name in enumerate(rule.stratify_by):
        if name not in names:
            text = f"{name!r} is not a setting of a trial{nearest(name, names)}"
            faults.append((("early_stopping", "stratify_by", index), text))
    if rule.metric is not None and rule.kind != "asha":
        text = f"{rule.kind} takes no metric; remove it, or set kind to asha"
        faults.append((("early_stopping", "metric"), text))
    elif rule.metric is not None and rule.metric not in METRICS:
        text = (
            f"no metric is called {rule.metric!r}{nearest(rule.metric, METRICS, METRIC_NAMES_IN_SHORT)}"
        )
        faults.append((("early_stopping", "metric"), text))
    elif rule.metric is not None and (fault := _metric_of_another_task(settings, rule.metric)):
        faults.append((("early_stopping", "metric"), fault))
    return faults


def _metric_of_another_task(settings: SweepSettings, metric: str) -> str | None:
    """That a metric is not one of those that the sweep's trials yield."""
    task = settings.trial.task
    if METRICS[metric].task in (None, task):
        return None
    what = "pairs of sentences" if task == "similarity" else "images"
    return (
        f"{metric} is no metric of {what}, which {settings.trial.dataset} has; take {SELECTED_BY[task]}"
    )


def _unfit_confirmation(settings: SweepSettings) -> Faults:
    if settings.confirm is None or "seed" not in settings.search_space:
        return []
    text = (
        "confirm trains under further seeds, but the search space varies the seed already; remove seed "
        "from search_space, or remove confirm"
    )
    return [(("confirm",), text)]


def _unfit_resources(settings: SweepSettings) -> Faults:
    resources = settings.resources
    varied = settings.search_space.get("device")
    group, devices = (
        ("search_space", varied.extremes()) if varied else ("trial", [settings.trial.device])
    )
    for device in devices:
        if fault := _unfit_device(settings, device):
            return [((group, "device"), fault)]
    if resources.gpus > 1:
        text = "one process trains on one GPU; set resources.workers to the number of GPUs and gpus to 1"
        return [(("resources", "gpus"), text)]
    if resources.workers and not float(resources.gpus).is_integer():
        text = "a worker group needs whole GPUs; set gpus to a whole number or workers to 0"
        return [(("resources", "gpus"), text)]
    return []


def _unfit_device(settings: SweepSettings, device: Value) -> str | None:
    if device == "cuda" and not settings.resources.gpus:
        return "device is cuda, but resources.gpus is 0; ask for a GPU, or set device to auto"
    if device == "cpu" and settings.resources.gpus:
        return "device is cpu, but resources.gpus asks for a GPU; set gpus to 0, or device to auto"
    return None


def _unfit_first_trials(settings: SweepSettings) -> Faults:
    faults: Faults = []
    for index, given in enumerate(settings.first_trials):
        location = ("first_trials", index)
        for name in given:
            if name not in settings.search_space:
                text = f"{name!r} is not in search_space{nearest(name, settings.search_space)}"
                faults.append(((*location, name), text))
        values = complete(settings.search_space, settings.trial, given)
        for name, value in values.items():
            if not settings.search_space[name].contains(value):
                origin = "" if name in given else " (the value under trial)"
                text = f"{name} is {value!r}{origin}, outside its search space; give one inside it"
                faults.append(((*location, name), text))
        for name in given.keys() & settings.search_space.keys() - values.keys():
            text = f"{name} does not exist where {settings.search_space[name].when} does not hold"
            faults.append(((*location, name), text))
        if not faults and (fault := _combination_fault(settings, values)):
            faults.append((location, fault))
    return faults


def _unfit_combinations(settings: SweepSettings) -> Faults:
    """The combinations of legal values that no trial can have, of the settings that such a thing is
    known of.
    """
    names = [name for name in settings.search_space if name in CROSS_CHECKED]
    faults: dict[str, tuple[Location, str]] = {}
    for values in combinations(settings.search_space, names):
        fault = _combination_fault(settings, values)
        if fault is None or fault in faults:
            continue
        culprits = {name: value for name, value in values.items() if name in names}
        for name in list(culprits):
            rest = {other: value for other, value in culprits.items() if other != name}
            if _combination_fault(settings, rest) == fault:
                culprits = rest
        trial = ", ".join(f"{name} {value}" for name, value in culprits.items())
        text = f"a trial with {trial} cannot be: {fault}; a `when` can keep such values apart"
        faults[fault] = (("search_space", next(iter(culprits))), text)
    return list(faults.values())


def _combination_fault(settings: SweepSettings, values: Mapping[str, Value]) -> str | None:
    try:
        to_trial_config(settings.trial, values)
    except ValidationError as error:
        return sentence(error.errors()[0], [], "")
    return None
