"""What holds on a GPU only, or only a GPU can break; skipped where there is none."""

from collections.abc import Iterator

import pytest
import torch
from short_trials import colour_trial, fit_reports, fit_states, without_times

from trainables import execution
from trainables.augment import Augment, draw_augmentations
from trainables.batches import Batches
from trainables.distributed import SINGLE
from trainables.execution import place_model
from trainables.images import Dataset
from trainables.training import main_optimizer, train_epoch, train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def no_warm_model() -> Iterator[None]:
    yield
    execution._WARM_MODELS.clear()
    torch.compiler.reset()


def test_augmentation_gives_the_same_bytes_as_on_the_cpu() -> None:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4096, 3, 32, 32), dtype=torch.uint8, generator=source)
    draw = draw_augmentations(len(images), (32, 32), source)
    augment = Augment((32, 32))
    expected = augment(images, draw)
    got = augment.to(GPU)(images.to(GPU), draw.to(GPU))
    assert torch.equal(got.cpu(), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_no_step_waits_for_the_device(tiles: Dataset, precision: str, compiled: bool) -> None:
    config = colour_trial(device="cuda", precision=precision, compile=compiled)
    placed = place_model(config, GPU)
    optimizer = main_optimizer(config, placed.model)
    batches = Batches(config, tiles.training.to(GPU), "main", SINGLE)
    train_epoch(config, placed, optimizer, batches, SINGLE)  # compiles, records
    epoch = batches.epoch()
    next(epoch)  # an epoch's order and draws go to the device before its first step
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in epoch:
            train_step(config, placed, optimizer, batch, SINGLE)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("tiles")
def test_deterministic_training_repeats_bit_for_bit() -> None:
    config = colour_trial(device="cuda", deterministic=True)
    first, second = fit_states(config)[-1], fit_states(config)[-1]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("tiles")
def test_cuda_graphs_train_as_eager_does_for_one_trial_after_another() -> None:
    for seed in (1, 2):
        config = colour_trial(device="cuda", seed=seed)
        expected = without_times(fit_reports(config)[-1].metrics)
        got = without_times(fit_reports(config.model_copy(update={"compile": True}))[-1].metrics)
        assert got["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-2)
        assert got["knn_accuracy"] == pytest.approx(expected["knn_accuracy"], abs=0.05)


@pytest.mark.usefixtures("tiles")
def test_gpu_trains_as_the_cpu_does() -> None:
    on_cpu, on_gpu = (fit_reports(colour_trial(device=device))[-1] for device in ("cpu", "cuda"))
    loss = on_cpu.metrics["train_loss"]
    assert on_gpu.metrics["train_loss"] == pytest.approx(loss, rel=1e-2)
