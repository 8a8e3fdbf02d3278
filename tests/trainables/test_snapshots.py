import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from short_trials import last_validation, relative_error, short_trial
from stores import URL, MemoryStore
from torch import Tensor

from trainables import images
from trainables.config import HeadConfig, TrialConfig
from trainables.data import Dataset
from trainables.heads import HEADS
from trainables.images import Subset
from trainables.metrics import spectrum
from trainables.models import build_model
from trainables.places import local_copy, remove_object
from trainables.snapshots import (
    EMBEDDINGS,
    MANIFEST,
    WEIGHTS,
    compact_embeddings,
    read_snapshot,
    restore_embeddings,
    write_snapshot,
)
from trainables.validation import Validation, embed

CONFIG = short_trial(head=HeadConfig(kind="mlp"), epochs=1)
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def validation() -> Validation:
    return last_validation(CONFIG)


@pytest.fixture(scope="module")
def unembeddable(validation: Validation) -> Validation:
    """A validation whose test images have a channel too many: embedding them raises."""
    test = Subset(torch.rand(3, 2, 8, 8), torch.arange(3))
    return replace(validation, dataset=replace(validation.dataset, test=test))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trial" / "epoch_1"


def contiguous_state(config: TrialConfig) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in build_model(config).state_dict().items()}


def part_of(dataset: Dataset, name: str) -> Subset:
    assert isinstance(dataset, images.Dataset)
    return {"train": dataset.training, "validation": dataset.validation, "test": dataset.test}[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_snapshot_read_back_embeds_identically(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    snapshot = read_snapshot(folder)
    assert snapshot.config == CONFIG
    assert snapshot.report == validation.report
    assert not snapshot.model.training
    expected = embed(validation.model, validation.dataset.test).embedding
    assert torch.equal(embed(snapshot.model, validation.dataset.test).embedding, expected)


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_survives_a_snapshot(folder: Path, kind: str, validation: Validation) -> None:
    config = short_trial(head=HeadConfig.model_validate({"kind": kind, "depth": 2}), seed=9)
    model = build_model(config)
    write_snapshot(folder, config, replace(validation, model=model), with_embeddings=False)
    got, expected = read_snapshot(str(folder)).model.state_dict(), model.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_a_snapshot_in_a_store_is_the_one_on_disk(
    folder: Path, memory: MemoryStore, validation: Validation
) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=True)
    write_snapshot(f"{URL}/epoch-0001", CONFIG, validation, with_embeddings=True)
    with local_copy(f"{URL}/epoch-0001") as copy:
        assert contents(copy) == contents(folder)
    assert read_snapshot(f"{URL}/epoch-0001").report == validation.report
    remove_object(f"{URL}/epoch-0001/{MANIFEST}")
    with pytest.raises(ValueError, match=f"{URL}/epoch-0001 is not a snapshot: it has no {MANIFEST}"):
        read_snapshot(f"{URL}/epoch-0001")


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_nothing_but_the_snapshot_remains(
    folder: Path, validation: Validation, with_embeddings: bool
) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings)
    expected = {MANIFEST, WEIGHTS} | ({EMBEDDINGS} if with_embeddings else set())
    assert list(folder.parent.iterdir()) == [folder]
    assert set(contents(folder)) == expected


def test_new_snapshot_replaces_the_old_one_whole(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=True)
    other = replace(validation, model=build_model(CONFIG))
    write_snapshot(folder, CONFIG, other, with_embeddings=False)
    assert list(folder.parent.iterdir()) == [folder]
    assert set(contents(folder)) == {MANIFEST, WEIGHTS}
    got = read_snapshot(folder).model.state_dict()
    assert torch.equal(got["head.0.weight"], other.model.state_dict()["head.0.weight"])


def test_failing_write_leaves_nothing(folder: Path, unembeddable: Validation) -> None:
    with pytest.raises(RuntimeError, match="channels"):
        write_snapshot(folder, CONFIG, unembeddable, with_embeddings=True)
    assert list(folder.parent.iterdir()) == []


def test_failing_write_leaves_the_old_snapshot(
    folder: Path, validation: Validation, unembeddable: Validation
) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=True)
    before = contents(folder)
    with pytest.raises(RuntimeError, match="channels"):
        write_snapshot(folder, CONFIG, unembeddable, with_embeddings=True)
    assert list(folder.parent.iterdir()) == [folder]
    assert contents(folder) == before


@pytest.mark.parametrize(
    "head",
    [HeadConfig(kind="mlp", depth=2), HeadConfig(kind="mlp", width_ratio=3.0), HeadConfig(kind="none")],
)
def test_weights_of_another_configuration_are_refused(
    folder: Path, validation: Validation, head: HeadConfig
) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    save_file(contiguous_state(short_trial(head=head)), folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"the weights in .*epoch_1 do not fit its configuration"):
        read_snapshot(folder)


def test_folder_without_manifest_is_no_snapshot(tmp_path: Path) -> None:
    save_file(contiguous_state(CONFIG), tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"is not a snapshot: it has no snapshot\.json"):
        read_snapshot(tmp_path)
    with pytest.raises(ValueError, match="is not a snapshot"):
        read_snapshot(tmp_path / "nowhere")


def test_manifest_with_unknown_settings_is_refused(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["config"]["momentum"] = 0.9
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="momentum"):
        read_snapshot(folder)


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_and_not_executed(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    trace = folder.parent / "executed"
    bomb = pickle.dumps(_Touch(trace))
    (folder / WEIGHTS).write_bytes(bomb)
    with pytest.raises(ValueError, match="do not fit"):
        read_snapshot(folder)
    assert not trace.exists()
    pickle.loads(bomb)
    assert trace.exists()


def test_manifest_is_plain_json(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest.keys() == {"config", "report"}
    assert TrialConfig.model_validate(manifest["config"]) == CONFIG
    assert manifest["report"]["metrics"] == validation.report.metrics


@pytest.mark.parametrize("part", PARTS)
def test_compact_embeddings_restore_to_within_the_stated_error(
    folder: Path, validation: Validation, part: str
) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=True)
    restored, known = restore_embeddings(folder / EMBEDDINGS, part)
    stated = load_file(folder / EMBEDDINGS)
    original = embed(validation.model, part_of(validation.dataset, part)).embedding
    error = (restored.double() - original.double()).square().mean().sqrt()
    centred = original.double() - stated["mean"]
    assert float(error) == pytest.approx(float(stated[f"{part}_error"]), rel=1e-3)
    relative = relative_error(centred + (restored - original), centred) ** 2
    assert relative == pytest.approx(float(stated[f"{part}_error_relative"]), rel=1e-3)
    assert torch.equal(known["labels"], part_of(validation.dataset, part).labels)


def test_compact_embeddings_hold_99_9_percent_of_the_training_variance(validation: Validation) -> None:
    tensors = compact_embeddings(validation)
    num_kept = tensors["basis"].shape[1]
    original = embed(validation.model, validation.dataset.training).embedding
    assert float(tensors["train_error_relative"]) <= 0.001
    assert num_kept == spectrum(original).num_components(0.999) < 128
    assert [tuple(tensors[f"{part}_coordinates"].shape) for part in PARTS] == [
        (1197, num_kept),
        (300, num_kept),
        (300, num_kept),
    ]


def test_basis_of_compact_embeddings_is_orthonormal(validation: Validation) -> None:
    basis = compact_embeddings(validation)["basis"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"config": {}, "report": {}}'])
def test_a_manifest_that_is_none_is_refused(content: str, folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    (folder / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match="manifest"):
        read_snapshot(folder)


def test_missing_weights_are_refused(folder: Path, validation: Validation) -> None:
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        read_snapshot(folder)
