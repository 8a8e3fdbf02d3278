import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables import bench
from trainables.batches import Batches
from trainables.bench_rows import Row, Run, Spread, count_flops, rotate
from trainables.config import TrialConfig
from trainables.distributed import SINGLE
from trainables.execution import place_model
from trainables.images import Dataset, Subset
from trainables.losses import supcon_loss
from trainables.metrics import evaluate
from trainables.plain_port import (
    AUGMENTED,
    UNAUGMENTED,
    PillowImages,
    PlainPort,
    PortEpoch,
    port_loss,
    port_metrics,
)
from trainables.training import embed, main_optimizer, train_epoch

CPU = torch.device("cpu")


def random_images(num: int, num_classes: int, seed: int = 0) -> Subset:
    source = torch.Generator().manual_seed(seed)
    items = torch.randint(256, (num, 3, 32, 32), dtype=torch.uint8, generator=source)
    return Subset(items, torch.randint(num_classes, (num,), generator=source))


def clusters(num: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Unit vectors around the centres of 10 classes, with variances that fall."""
    centres = torch.randn(10, 24, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(10, (num,), generator=source)
    noise = torch.randn(num, 24, generator=source)
    scale = torch.arange(1, 25) ** -1.0
    return functional.normalize((centres[labels] + 1.5 * noise) * scale, dim=1), labels


@pytest.fixture(scope="module")
def trial() -> TrialConfig:
    return TrialConfig(
        encoder="resnet8", encoder_weights="none", augmentation="none", batch_size=64, device="cpu"
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(random_images(64, 5), random_images(16, 5, seed=1), random_images(16, 5, seed=2))


@pytest.mark.parametrize("num_classes", [4, 60])
def test_loss_of_the_port_is_eq_1(num_classes: int) -> None:
    """With 60 classes many anchors have no positive."""
    source = torch.Generator().manual_seed(num_classes)
    vectors = functional.normalize(torch.randn(96, 32, generator=source), dim=1)
    labels = torch.randint(num_classes, (96,), generator=source)
    ours = supcon_loss(vectors, labels, 0.1).loss
    assert float(port_loss(vectors, labels, 0.1)) == pytest.approx(float(ours), abs=1e-5)


def test_metrics_of_the_port_are_ours() -> None:
    source = torch.Generator().manual_seed(0)
    sides = *clusters(800, source), *clusters(150, source)
    ours = evaluate(*sides)
    ports = port_metrics(*(side.numpy() for side in sides))
    assert 0.2 < ours["knn_accuracy"] < 1 and 1 < ours["d_eff"] < 24
    exact = {name: value for name, value in ports.items() if name != "reconstruction_error"}
    assert exact.keys() == {"knn_accuracy", "d_eff", *(f"recall_at_{k}" for k in range(1, 21))}
    assert exact == pytest.approx({name: ours[name] for name in exact}, abs=1e-12)
    assert ports["reconstruction_error"] == pytest.approx(ours["reconstruction_error"], rel=1e-4)


def test_first_step_of_the_port_is_ours(trial: TrialConfig, data: Dataset) -> None:
    placed = place_model(trial, CPU)
    optimizer = main_optimizer(trial, placed.model)
    batches = Batches(trial, data.training, "main", SINGLE)
    port = PlainPort(trial, data, num_workers=0)
    start = port.gallery[3][0]
    pixels = data.training.items[3:4].float() / 255
    torch.testing.assert_close(start, placed.model.normalize(pixels)[0])
    ours = [train_epoch(trial, placed, optimizer, batches, SINGLE).loss for _ in range(2)]
    ports = [port.train_epoch(port.gallery).loss for _ in range(2)]
    assert ports[0] == pytest.approx(ours[0], rel=1e-5)
    assert ports[1] == pytest.approx(ours[1], rel=1e-2) and ours[1] != pytest.approx(ours[0], rel=1e-5)


def test_embeddings_of_the_port_are_ours(trial: TrialConfig, data: Dataset) -> None:
    ours = embed(place_model(trial, CPU).model, data.validation).embedding
    port = PlainPort(trial, data, num_workers=0)
    np.testing.assert_allclose(port.embed(port.queries), ours.numpy(), atol=1e-5)


def test_port_augments_in_the_published_order() -> None:
    names = [type(step).__name__ for step in AUGMENTED.transforms]
    assert names == ["TrivialAugmentWide", "ToTensor", "RandomErasing", "Normalize"]
    torch.manual_seed(0)
    images = PillowImages.of(random_images(64, 5), UNAUGMENTED)
    augmented = images.rows(0, 64, AUGMENTED)
    changed = [not torch.equal(images[i][0], augmented[i][0]) for i in range(64)]
    assert sum(changed) > 32 and augmented.labels == images.labels
    assert len(images.rows(10, 40, AUGMENTED)) == 30


def test_epoch_is_extrapolated_with_one_start() -> None:
    assert PortEpoch(loss=1.0, time_s=5.0, start_s=1.0).extrapolated_s(3.0) == 13.0


def test_flops_of_the_encoders() -> None:
    resnet34 = count_flops("resnet34")
    assert resnet34.both_ways / 1e9 == pytest.approx(6.953, rel=0.01)
    assert resnet34.forward / 1e9 == pytest.approx(6.953 / 3, rel=0.01)
    assert 2.9 < count_flops("resnet8").both_ways / count_flops("resnet8").forward < 3


def test_rotation_takes_turns() -> None:
    calls: list[str] = []
    values = {"a": iter([9.0, 1.0, 2.0, 4.0]), "b": iter([9.0, 3.0, 3.0, 3.0])}

    def runner(name: str) -> Run:
        def run() -> float:
            calls.append(name)
            return next(values[name])

        return run

    spreads = rotate({name: runner(name) for name in values}, repeats=3)
    assert calls == ["a", "b"] * 4
    assert spreads == {"a": Spread(2.0, 1.0, 4.0), "b": Spread(3.0, 3.0, 3.0)}
    assert str(spreads["a"]) == "2 (1-4)" and str(spreads["b"]) == "3"


def test_ratio_and_gap_say_how_many_times_better() -> None:
    time = Row("epoch", "s", Spread(2, 1, 3), Spread(8, 8, 8), 0.5, "")
    rate = Row("step", "images/s", Spread(2, 1, 3).as_rate(100), Spread(12.5, 12.5, 12.5), 200.0, "")
    assert (time.ratio, time.gap) == (4, 4)
    assert rate.ours == Spread(50, 100 / 3, 100) and (rate.ratio, rate.gap) == (4, 4)
    assert Row("epoch", "s", Spread(2, 1, 3), None, None, "").cells()[3:] == ("-", "-", "-", "-")


def test_command_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    tiny = "--encoder resnet8 --items 256 --steps 1 --port-workers 0 --device cpu --json"
    num_threads = torch.get_num_threads()
    assert bench.main([*tiny.split(), str(file), "--batch-size", "64", "--repeats", "1"]) == 0
    assert torch.get_num_threads() == num_threads
    printed = capsys.readouterr().out
    for text in ("no --source", "resnet34: 2.319 GFLOP", "6.953", "extrapolated from 1 step", "gap"):
        assert text in printed

    facts = json.loads(file.read_text())
    assert facts["settings"]["seed"] == 42 and facts["settings"]["source"] == "synthetic"
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    figures = {row["figure"]: row for row in facts["rows"]}
    floors = {"forward", "training step", "epoch", "embedding", "validation"}
    expected = {f"{name}, fp32" for name in floors} | {
        "data loading",
        "augmentation, one CPU thread",
        "augmented batches, cpu",
        "metrics, all",
    }
    assert figures.keys() - {"peak memory, fp32"} == expected
    for name, row in figures.items():
        assert name in printed
        values = list(row["ours"].values())
        if name != "data loading":
            values += [*row["port"].values(), row["ratio"]]
        if name.split(",")[0] in floors | {"metrics"}:
            values += [row["floor"], row["gap"]]
        assert all(math.isfinite(value) and value > 0 for value in values), row
        assert row["ours"]["low"] <= row["ours"]["median"] <= row["ours"]["high"]


def test_port_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = "--encoder resnet8 --items 40 --batch-size 20 --repeats 1 --skip-port --device cpu"
    _, rows = bench.run([*tiny.split(), "--precision", "fp32", "bf16", "bf16"])
    assert all(row.port is None and row.ratio is None for row in rows)
    steps = [row.figure for row in rows if row.figure.startswith("training step")]
    assert steps == ["training step, fp32", "training step, bf16"]
    assert next(row for row in rows if row.figure == "epoch, fp32").note.endswith("measured whole")
    assert all(len(row.in_words()) == 3 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--batch-size", "1"], "from 2"),
        (["--items", "5"], "from 20"),
        (["--batch-size", "64", "--items", "32"], "--items 32"),
        (["--steps", "0"], "--steps"),
        (["--seed", str(2**32)], "--seed"),
        (["--precision", "fp8"], "fp8"),
        (["--source", ""], "--source"),
        (["--encoder", "digits_cnn"], "digits_cnn"),
        (["--json", "no/such/folder/x.json"], "--json"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        bench.main(["--device", "cpu", *arguments])
    message = capsys.readouterr().err
    assert refusal.value.code == 2
    assert named in message and message.count("\n") == 1


def test_cuda_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refusal:
        bench.main(["--device", "cuda"])
    message = capsys.readouterr().err
    assert refusal.value.code == 2
    assert "no GPU" in message and message.count("\n") == 1


def test_source_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--device", "cpu", "--source", str(tmp_path / "nowhere")]) == 2
    message = capsys.readouterr().err
    assert "nowhere does not exist" in message and message.count("\n") == 1
