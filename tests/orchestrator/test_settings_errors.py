from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sweep_events import EXAMPLES

from orchestrator.errors import UserError
from orchestrator.settings import load_settings

Write = Callable[[str | bytes], Path]

PLACE = re.compile(r"^(/\S*\.yaml(:\d+)?|--set .+?): \S")

BASE = """\
name: s
search_space:
  temperature: {log_uniform: [0.03, 0.5]}
"""
"""Complete; text added to it begins in line 4."""

DEPTH = (
    BASE + "  head.kind: {choice: [none, mlp]}\n  head.depth: {int: [1, 3], when: {head.kind: mlp}}\n"
)
"""With a parameter that exists under a condition; text added to it begins in line 6."""

BAD_FILES: dict[str, tuple[str, list[str]]] = {
    "no name": ("search_space: {temperature: {uniform: [0.1, 1]}}\n", [":1: 'name' is missing"]),
    "unknown key": (BASE + "serach: {trials: 3}\n", [":4: unknown key 'serach'", "'search'?"]),
    "unknown key, nothing like it": (BASE + "zzz: 1\n", [":4: unknown key 'zzz'", "known are name, "]),
    "unknown nested key": (BASE + "search: {trails: 3}\n", [":4: ", "'search.trails'", "'trials'?"]),
    "unknown deeper key": (
        BASE + "trial:\n  head:\n    knid: mlp\n",
        [":6: ", "'trial.head.knid'", "'kind'?"],
    ),
    "unknown parameter": (
        BASE + "  temprature: {int: [1, 2]}\n",
        [":4: 'temprature'", "'temperature'?"],
    ),
    "group as parameter": (
        BASE + "  head: {choice: [mlp]}\n",
        [":4: 'head' is not a setting", "'head.kind'?"],
    ),
    "unknown key in parameter": (
        BASE + "  head.kind:\n    chioce: [mlp]\n",
        [":5: ", "chioce", "'choice'?"],
    ),
    "number as key": (BASE + "1: 2\n", [":4: ", "keys should be strings, got 1"]),
    "text for a number": (BASE + "trial:\n  epochs: many\n", [":5: trial.epochs", "integer", "'many'"]),
    "fraction for a whole number": (
        BASE + "trial: {epochs: 1.5}\n",
        [":4: trial.epochs", "integer", "1.5"],
    ),
    "truth for a number": (BASE + "trial: {epochs: true}\n", [":4: trial.epochs", "integer", "True"]),
    "not a number": (BASE + "trial: {temperature: .nan}\n", [":4: trial.temperature", "finite", "nan"]),
    "number for a group": (BASE + "search: 3\n", [":4: search", "a group of settings", "got 3"]),
    "out of range": (BASE + "trial: {temperature: 0}\n", [":4: trial.temperature", "greater than 0"]),
    "low above high": (BASE + "  epochs: {int: [9, 3]}\n", [":4: ", "low 9 is above high 3", "swap"]),
    "log touches 0": (
        BASE + "  optimizer.head_lr: {log_uniform: [0, 1]}\n",
        [":4: ", "starts above 0, got low 0"],
    ),
    "three ends": (
        BASE + "  epochs: {int: [1, 2, 3]}\n",
        [":4: ", "int takes [low, high], got [1, 2, 3]"],
    ),
    "empty choice": (BASE + "  head.kind: {choice: []}\n", [":4: ", "choice is empty"]),
    "choice twice": (BASE + "  head.kind: {choice: [mlp, mlp]}\n", [":4: ", "names a value twice"]),
    "illegal choice": (
        BASE + "  head.kind: {choice: [mlp, cnn]}\n",
        [":4: head.kind is 'cnn'", "none of none, mlp"],
    ),
    "illegal end": (BASE + "  head.depth:\n    int: [0, 3]\n", [":5: head.depth", "equal to 1, got 0"]),
    "fractions of a whole number": (BASE + "  epochs: {uniform: [1, 3]}\n", [":4: epochs", "integer"]),
    "two kinds": (
        BASE + "  epochs: {int: [1, 3], choice: [1]}\n",
        [":4: ", "exactly one of", "choice and int"],
    ),
    "no kind": (BASE + "  epochs: {}\n", [":4: ", "exactly one of", "got none"]),
    "fixed value": (BASE + "  epochs: 3\n", [":4: ", "got 3", "belongs under trial"]),
    "empty space": ("name: s\nsearch_space: {}\n", [":2: ", "search space is empty"]),
    "when names nothing": (
        BASE + "  epochs: {int: [1, 3], when: {seed: 1}}\n",
        [":4: `when` names 'seed'", "(temperature)"],
    ),
    "when never": (
        DEPTH + "  epochs:\n    int: [1, 3]\n    when:\n      head.kind: [cnn]\n",
        [":9: head.kind never takes ['cnn']"],
    ),
    "when with no value": (
        DEPTH + "  epochs: {int: [1, 3], when: {head.kind: []}}\n",
        [":6: head.kind never takes"],
    ),
    "when of itself": (
        BASE + "  epochs: {int: [1, 3], when: {epochs: 1}}\n",
        [":4: ", "epochs -> epochs"],
    ),
    "cycle": (
        BASE
        + "  epochs: {int: [1, 3], when: {head.depth: 1}}\n"
        + "  head.depth: {int: [1, 3], when: {epochs: 1}}\n",
        [":4: ", "cycle: epochs -> head.depth -> epochs"],
    ),
    "metric of another task": (
        BASE + "trial: {preset: paper_snli}\nobjectives:\n  knn_accuracy: max\n",
        [":6: knn_accuracy is no metric of pairs of sentences, which snli has; take spearman"],
    ),
    "metric of another task, asked for images": (
        BASE + "objectives: {d_eff: min, spearman: max}\n",
        [":4: spearman is no metric of images, which cifar100 has; take knn_accuracy"],
    ),
    "early stopping on a metric of another task": (
        BASE + "early_stopping: {kind: asha, metric: spearman}\n",
        [":4: spearman is no metric of images"],
    ),
    "constraint on a metric of another task": (
        BASE + "trial: {preset: paper_snli}\nconstraints:\n  - knn_accuracy >= 0.5\n",
        [":6: knn_accuracy is no metric of pairs of sentences, which snli has; take spearman"],
    ),
    "pick of a metric of another task": (
        BASE + "pick: best d_eff subject to spearman >= 0.5\n",
        [":4: spearman is no metric of images, which cifar100 has; take knn_accuracy"],
    ),
    "two tasks in one sweep": (
        BASE + "  dataset: {choice: [cifar100, snli]}\n",
        [":4: images and sentences are judged by different metrics; give each a sweep of its own"],
    ),
    "unknown kind of early stopping": (
        BASE + "early_stopping: {kind: median}\n",
        [":4: early_stopping.kind is 'median'", "none of none, pareto, asha"],
    ),
    "early stopping that stops all": (
        BASE + "early_stopping: {kind: pareto, reduction_factor: 1.5}\n",
        [":4: early_stopping.reduction_factor", "greater than or equal to 2"],
    ),
    "strata of nothing": (
        BASE + "early_stopping:\n  kind: pareto\n  stratify_by: head.knid\n",
        [":6: 'head.knid' is not a setting of a trial", "head.kind"],
    ),
    "metric for several objectives": (
        BASE + "early_stopping:\n  kind: pareto\n  metric: d_eff\n",
        [":6: pareto takes no metric", "set kind to asha"],
    ),
    "unknown metric of asha": (
        BASE + "early_stopping: {kind: asha, metric: acuracy}\n",
        [":4: no metric is called 'acuracy'", "knn_accuracy"],
    ),
    "unknown objective": (
        BASE + "objectives: {knn_acuracy: max}\n",
        [":4: ", "'knn_acuracy'", "'knn_accuracy'?"],
    ),
    "unknown direction": (
        BASE + "objectives: {d_eff: minimise}\n",
        [":4: objectives.d_eff", "'minimise'", "'min'?"],
    ),
    "no objective": (BASE + "objectives: {}\n", [":4: ", "at least one objective"]),
    "no worst value": (
        BASE + "objectives: {train_loss: min}\n",
        [":4: train_loss", "under reference_point"],
    ),
    "reference that cannot be read": (
        BASE + "reference_point: {d_eff: 2 * d_eff}\n",
        [":4: it is a number, or an expression over the baseline"],
    ),
    "constraint on no metric": (
        BASE + "constraints:\n  - d_eff <= 64\n  - knn_acuracy >= 0.9\n",
        [":6: no metric is called 'knn_acuracy'; did you mean 'knn_accuracy'?"],
    ),
    "constraint that is none": (
        BASE + "constraints: d_eff\n",
        [":4: a constraint compares with >= or <="],
    ),
    "pick that is none": (
        BASE + "pick: the best one\n",
        [":4: a pick is knee, best METRIC"],
    ),
    "baseline that is not tried": (
        BASE + "pick: best d_eff subject to knn_accuracy >= 0.9 * baseline\n"
        "constraints: ['knn_accuracy >= 0.9 * baseline']\nreference_point: {d_eff: 2 * baseline}\n",
        [
            ":5: it names the baseline, which is the first trial with head.kind none",
            ":4: it names the baseline",
            ":6: it names the baseline",
            "add {head.kind: none} there",
        ],
    ),
    "reference of no objective": (
        BASE + "reference_point: {train_loss: 3}\n",
        [":4: 'train_loss' is not an objective"],
    ),
    "values that do not go together": (
        "name: s\ntrial: {encoder_weights: none}\nsearch_space:\n"
        "  encoder: {choice: [resnet34, resnet8]}\n"
        "  encoder_weights: {choice: [imagenet, none]}\n",
        [
            ":4: a trial with encoder resnet8, encoder_weights imagenet cannot be: there are no ",
            "a `when` can keep such values apart",
        ],
    ),
    "a value that does not go with what is fixed": (
        "name: s\nsearch_space:\n  encoder: {choice: [resnet34, resnet8]}\n",
        [":3: a trial with encoder resnet8 cannot be: there are no ImageNet weights for resnet8"],
    ),
    "first trial of values that do not go together": (
        "name: s\nsearch_space:\n  encoder: {choice: [resnet34, resnet8]}\nfirst_trials:\n"
        "  - {encoder: resnet8}\n",
        [":5: there are no ImageNet weights for resnet8; set encoder_weights to none"],
    ),
    "more images than there are": (
        BASE + "trial: {data: {num_training_items: 45001}}\n",
        [":4: trial: data.num_training_items is 45001, cifar100 has 45000"],
    ),
    "a number for a word": (
        BASE + "trial: {precision: 16}\n",
        [":4: trial.precision is 16, which is none of fp32, bf16"],
    ),
    "nothing for a word": (
        BASE + "trial: {encoder_weights: null}\n",
        [":4: trial.encoder_weights: it is empty; give it a value"],
    ),
    "unknown dataset": (
        BASE + "trial: {dataset: digit}\n",
        [":4: trial.dataset is 'digit'", "'digits'?"],
    ),
    "unknown encoder": (BASE + "trial: {encoder: vit}\n", [":4: trial.encoder is 'vit'", "digits_cnn"]),
    "unknown head": (
        BASE + "trial:\n  head: {kind: monotone}\n",
        [":5: trial.head.kind", "'monotonic'?"],
    ),
    "preset that varies": (
        BASE + "  preset: {choice: [paper_cifar100, paper_cifar10]}\n",
        [":4: a preset does not vary; name it under trial"],
    ),
    "unknown sampler": (BASE + "search: {sampler: tpo}\n", [":4: search.sampler is 'tpo'", "'tpe'?"]),
    "list of nothing": (
        BASE + "search: {sampler: list}\n",
        [":4: list tries first_trials alone, and there are none; name some"],
    ),
    "grid over a range": (
        BASE + "search: {sampler: grid}\n",
        [":3: a grid takes no", "give a choice of values, or another sampler"],
    ),
    "gp with conditions": (
        DEPTH + "search: {sampler: gp}\n",
        [":6: gp takes no parameter with a `when`, as head.depth has; choose tpe"],
    ),
    "no epochs": (BASE + "search: {epochs: 0}\n", [":4: search.epochs", "equal to 1, got 0"]),
    "stall without trials": (
        BASE + "search: {stall: {growth: 0.1}}\n",
        [":4: 'search.stall.trials' is missing; add it"],
    ),
    "unknown key of the stall": (
        BASE + "search: {stall: {trials: 3, grwth: 0.1}}\n",
        [":4: unknown key 'search.stall.grwth'", "'growth'?"],
    ),
    "confirm without seeds": (BASE + "confirm: {}\n", [":4: 'confirm.seeds' is missing; add it"]),
    "no further seed": (BASE + "confirm: {seeds: 0}\n", [":4: confirm.seeds", "equal to 1, got 0"]),
    "confirm what": (BASE + "confirm: {seeds: 2, of: back}\n", [":4: confirm.of is 'back'", "front"]),
    "unknown key of confirm": (
        BASE + "confirm: {seeds: 2, off: front}\n",
        [":4: unknown key 'confirm.off'", "did you mean 'of'?"],
    ),
    "confirm seeds that vary": (
        BASE + "  seed: {choice: [1, 2]}\nconfirm: {seeds: 2}\n",
        [":5: confirm trains under further seeds, but the search space varies the seed already"],
    ),
    "no trials": (BASE + "search: {trials: 0}\n", [":4: search.trials", "equal to 1, got 0"]),
    "unknown embeddings": (
        BASE + "tracking: {embeddings: some}\n",
        [":4: tracking.embeddings", "front, all, none"],
    ),
    "first trial names nothing": (
        BASE + "first_trials:\n  - {temperature: 0.1}\n  - {temperture: 0.1}\n",
        [":6: 'temperture' is not in search_space", "'temperature'?"],
    ),
    "first trial outside": (
        BASE + "first_trials:\n  - {temperature: 5.0}\n",
        [":5: temperature is 5.0, outside"],
    ),
    "first trial's base outside": (
        BASE + "trial: {temperature: 5.0}\nfirst_trials:\n  - {}\n",
        [":6: temperature is 5.0 (the value under trial), outside"],
    ),
    "first trial without its condition": (
        DEPTH + "first_trials:\n  - {head.kind: none, head.depth: 2}\n",
        [":7: head.depth does not exist where {'head.kind': ['mlp']} does not hold"],
    ),
    "duration without unit": (
        BASE + "search: {time_budget: 10}\n",
        [":4: search.time_budget", "10m", "got 10"],
    ),
    "duration in words": (
        BASE + "search: {time_budget: soon}\n",
        [":4: search.time_budget", "got 'soon'"],
    ),
    "no duration": (BASE + "search: {time_budget: 0s}\n", [":4: search.time_budget", "above 0", "'0s'"]),
    "name with a slash": (BASE.replace(": s", ": a/b", 1), [":1: name: ", "letters, digits", "'a/b'"]),
    "name that climbs": (BASE.replace(": s", ": ..", 1), [":1: name: ", "'..'"]),
    "long name": (BASE.replace(": s", ": " + "a" * 101, 1), [":1: name: ", "up to 100"]),
    "experiment with a space": (
        BASE + "tracking: {experiment: a b}\n",
        [":4: tracking.experiment", "'a b'"],
    ),
    "two GPUs, one process": (
        BASE + "resources: {gpus: 2}\n",
        [":4: ", "one process trains on one GPU", "workers"],
    ),
    "two GPUs, one worker": (
        BASE + "resources: {gpus: 2, workers: 2}\n",
        [":4: ", "one process trains on one GPU", "workers"],
    ),
    "part of a GPU in a group": (BASE + "resources: {gpus: 0.5, workers: 2}\n", [":4: ", "whole GPUs"]),
    "tag": (BASE + "storage: !!python/name:os.system\n", [":4: YAML tags are not allowed"]),
    "tagged list": (
        BASE + 'first_trials: !!python/object/apply:os.system ["x"]\n',
        [":4: YAML tags are not allowed", "os.system"],
    ),
    "own tag": (BASE + "trial: !foo {epochs: 3}\n", [":4: YAML tags are not allowed", "!foo"]),
    "a line break in a name": (
        'name: "s\\n"\nsearch_space: {temperature: {uniform: [0.1, 1]}}\n',
        [":1: name"],
    ),
    "objective against its direction": (
        BASE + "objectives: {knn_accuracy: max, d_eff: max}\n",
        [":4: d_eff is better the smaller it is, got max", "reference_point"],
    ),
    "range that is no pair": (
        "name: s\nsearch_space:\n  head.depth: {int: 5}\n",
        [":3: search_space.head.depth: int takes [low, high], got 5"],
    ),
    "list in a choice": (
        "name: s\nsearch_space:\n  head.depth: {choice: [[1], 2]}\n",
        [":3: search_space.head.depth: choice takes single values, got [1]"],
    ),
    "equal choices of two types": (
        "name: s\nsearch_space:\n  temperature: {choice: [1, 1.0]}\n",
        [":3: search_space.temperature: choice names a value twice"],
    ),
}


@pytest.mark.parametrize(("text", "fragments"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_with_its_line(
    text: str, fragments: list[str], write_space: Write
) -> None:
    path = write_space(text)
    with pytest.raises(UserError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{fragments[0]}"), message
    assert all(fragment in message for fragment in fragments), message


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("trial.epohcs=3", ["unknown key 'trial.epohcs'", "'epochs'?"]),
        ("trial.epochs=many", ["trial.epochs", "integer", "'many'"]),
        ("search_space.temperature={uniform: [2, 1]}", ["low 2 is above high 1"]),
        ("search_space.temperature.log_uniform=[0, 1]", ["starts above 0"]),
        ("objectives.speed=max", ["no metric is called 'speed'"]),
        ("search.time_budget=12", ["search.time_budget", "got 12"]),
        ("resources.gpus=2", ["one process trains on one GPU"]),
        ("name=", ["name", "got None"]),
    ],
)
def test_a_bad_set_is_refused_by_name(argument: str, fragments: list[str], write_space: Write) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(write_space(BASE), [argument])
    last = str(caught.value).splitlines()[-1]
    assert all(fragment in last for fragment in fragments), last
    assert PLACE.match(last), last


def test_a_set_that_mends_the_file_is_accepted(write_space: Write) -> None:
    path = write_space(BASE + "trial: {epochs: many}\n")
    settings = load_settings(path, ["trial.epochs=3", "search.time_budget=2m"])
    assert settings.trial.epochs == 3
    assert settings.search.time_budget == 120


def test_all_malformed_settings_are_listed(write_space: Write) -> None:
    path = write_space(BASE + "serach: 1\ntrial: {epochs: 0, dataset: mnist}\nsearch: {seed: -1}\n")
    with pytest.raises(UserError) as caught:
        load_settings(path, ["resources.cpus=0"])
    lines = str(caught.value).splitlines()
    places = [PLACE.match(line) for line in lines]
    assert [match and match[1].rsplit(":")[-1] for match in places] == [
        "5",
        "5",
        "6",
        "--set resources.cpus=0",
        "4",
    ]


def test_all_contradictions_are_listed(write_space: Write) -> None:
    parameters = "  nothing: {int: [1, 2]}\n  head.depth: {int: [0, 1]}\n"
    path = write_space(BASE + parameters + "objectives: {speed: max}\nresources: {gpus: 3}\n")
    with pytest.raises(UserError) as caught:
        load_settings(path)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}:")[:3] for line in lines] == ["4: ", "5: ", "6: ", "7: "]


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text("abc.-_/ é", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
SETTINGS = [
    (group, *key.split("."))
    for group, keys in {
        "trial": ["head", "head.kind", "epochs", "optimizer.head_lr", "patience_epochs"],
        "search_space": ["epochs", "temperature"],
        "search": ["sampler", "trials", "time_budget"],
        "resources": ["gpus", "max_concurrent"],
        "tracking": ["uri", "experiment"],
        "objectives": ["knn_accuracy"],
        "reference_point": ["knn_accuracy"],
    }.items()
    for key in keys
] + [
    (key,)
    for key in (
        "name",
        "trial",
        "search_space",
        "first_trials",
        "objectives",
        "search",
        "storage",
        "constraints",
        "pick",
    )
]


@EXAMPLES
@given(st.sampled_from(SETTINGS), junk)
def test_junk_anywhere_is_accepted_or_refused_with_a_place(
    tmp_path_factory: pytest.TempPathFactory, location: tuple[str, ...], value: Any
) -> None:
    data: dict[str, Any] = {"name": "s", "search_space": {"temperature": {"uniform": [0.1, 1]}}}
    *groups, last = location
    node = data
    for group in groups:
        node = node.setdefault(group, {})
    node[last] = value
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(data, file)
    try:
        load_settings(path)
    except UserError as error:
        assert all(PLACE.match(line) for line in str(error).splitlines()), str(error)  # noqa: PT017
