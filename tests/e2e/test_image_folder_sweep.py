"""A sweep over images of one's own, and what is said where they are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sweep_runs import SweepRun, run_sweep

from orchestrator.events import PointEvaluated
from trainables.snapshots import read_snapshot, restore_embeddings

pytestmark = pytest.mark.slow

NUM_IMAGES = 400
SWEEP = """
name: own
trial:
  dataset: image_folder
  data: {{source: {folder}, image_size: 16}}
  encoder: resnet8
  encoder_weights: none
  batch_size: 64
  epochs: 2
  validate_every: 1
  optimizer: {{head_lr: 2.0e-3}}
  warmup: {{epochs: 0}}
search_space:
  head.kind: {{choice: [none, monotonic]}}
first_trials: [{{head.kind: none}}, {{head.kind: monotonic}}]
search: {{sampler: list, trials: 2}}
resources: {{workers: 0, cpus: 1, max_concurrent: 2}}
evaluation: {{points: front}}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of scikit-learn's digits, a folder for each, as PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    pixels, targets = load_digits(return_X_y=True)
    for number, (image, target) in enumerate(zip(pixels[:NUM_IMAGES], targets, strict=False)):
        (folder / str(target)).mkdir(exist_ok=True)
        grey = Image.fromarray((image.reshape(8, 8) * 15.9).astype(np.uint8))
        grey.save(folder / str(target) / f"{number:04d}.png")
    return folder


def sweep_of(folder: Path, place: Path, *arguments: str) -> SweepRun:
    """Runs the sweep over a folder of images, with its cache and all that it writes elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOCON_CACHE", str(place / "cache"))
        (place / "own.yaml").write_text(SWEEP.format(folder=folder))
        (place / "left").mkdir()
        return run_sweep(place / "left", "own", *arguments, file=place / "own.yaml", has_store=False)


@pytest.fixture(scope="module")
def sweep(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    run = sweep_of(digits, tmp_path_factory.mktemp("sweep"))
    assert run.returncode == 0, run.stderr
    return run


def test_a_sweep_over_own_images_ends_with_a_front(sweep: SweepRun, digits: Path) -> None:
    accuracies = [point.metrics["knn_accuracy"] for point in sweep.record.front]
    assert max(accuracies) > 0.3, "ten classes, so chance is 0.1"
    assert f"data from {digits}" in sweep.stdout + sweep.stderr


def test_points_of_own_images_are_evaluated_on_their_test_images(sweep: SweepRun) -> None:
    evaluated = [event for event in sweep.events if isinstance(event, PointEvaluated)]
    assert {(e.trial, e.epoch) for e in evaluated} == {(p.trial, p.epoch) for p in sweep.record.front}
    assert max(event.metrics["test_knn_accuracy"] for event in evaluated) > 0.3


def test_a_snapshot_embeds_images_of_the_size(sweep: SweepRun) -> None:
    point = next(iter(sweep.record.front))
    folder = Path(sweep.paths.snapshot(point.trial, point.epoch))
    assert read_snapshot(folder).config.data.image_size == 16
    vectors, known = restore_embeddings(folder / "embeddings.safetensors", "test")
    assert vectors.shape == (NUM_IMAGES // 10, 128) and len(known["labels"]) == NUM_IMAGES // 10


def test_a_damaged_image_is_refused_and_leaves_nothing(tmp_path: Path, no_ray_left: None) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / f"{number}.png")
    torn = tmp_path / "images" / "bee" / "5.png"
    Image.effect_noise((32, 32), 50).save(torn)
    torn.write_bytes(torn.read_bytes()[:-100])
    run = sweep_of(tmp_path / "images", tmp_path)
    assert run.returncode == 2
    assert f"own.yaml:5: trial.data.source: the image {torn} is damaged: " in run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    assert list((tmp_path / "left").iterdir()) == []
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
