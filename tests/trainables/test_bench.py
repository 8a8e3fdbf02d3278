import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables import bench, bench_machine, execution
from trainables.batches import Batches
from trainables.bench_ours import Ours
from trainables.bench_rows import Row, Run, Spread, count_flops, rotate
from trainables.bench_trial import trial_row, trial_s
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
from trainables.training import main_optimizer, train_epoch
from trainables.validation import embed

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


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Captures graphs as ever, but generates no code for them; no model is warm before or after."""
    monkeypatch.setattr(execution, "_WARM_MODELS", {})
    monkeypatch.setattr(
        execution, "_compile", lambda function, device: torch.compile(function, backend="aot_eager")
    )
    yield
    torch.compiler.reset()


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


@pytest.mark.parametrize(
    ("config", "num_validations"),
    [(TrialConfig(), 40), (TrialConfig(validate_every=7), 29), (TrialConfig(epochs=3), 1)],
)
def test_trial_has_all_epochs_and_validations(config: TrialConfig, num_validations: int) -> None:
    assert trial_s(config, epoch_s=1.0, validation_s=0.0) == 10 + config.epochs
    assert trial_s(config, epoch_s=0.0, validation_s=1.0) == num_validations
    assert trial_s(config, 2.0, 3.0, 5.0) == 2 * (10 + config.epochs) + 3 * num_validations + 5


def test_trial_is_the_sum_of_its_parts() -> None:
    epoch = Row("epoch, bf16 compiled", "s", Spread(2, 1, 4), Spread(20, 10, 40), 0.5, "")
    validation = Row("validation, bf16", "s", Spread(3, 2, 8), Spread(30, 20, 80), 0.25, "")
    compilation = Row("compilation, bf16 compiled", "s", Spread(60, 60, 60), None, None, "")
    row = trial_row("bf16 compiled", TrialConfig(), 45_000, epoch, validation, compilation)
    assert (row.figure, row.unit) == ("trial, bf16 compiled", "s")
    assert row.ours == (210 * 2 + 40 * 3 + 60, 210 * 1 + 40 * 2 + 60, 210 * 4 + 40 * 8 + 60)
    assert row.port == (210 * 20 + 40 * 30, 210 * 10 + 40 * 20, 210 * 40 + 40 * 80)
    assert row.floor == 210 * 0.5 + 40 * 0.25
    assert row.ratio == 5400 / 600 and row.gap == 600 / 115
    for text in ("a sum", "10 warm-up and 200 epochs", "40 validations", "upper bound", "360 s"):
        assert text in row.note
    eager = trial_row("bf16", TrialConfig(), 45_000, epoch, validation, None)
    assert eager.ours == (540, 290, 1160) and eager.port == row.port
    alone = replace(epoch, port=None), replace(validation, port=None)
    assert trial_row("bf16", TrialConfig(), 45_000, *alone, None).port is None


@pytest.mark.usefixtures("quick_compiler")
def test_compilation_is_what_first_calls_take_beyond_later_ones(
    trial: TrialConfig, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([9.0, 2.0, 0.5])
    monkeypatch.setattr(Ours, "steps", lambda self: next(steps))
    monkeypatch.setattr(Ours, "epoch", lambda self: 5.0)
    compiled = trial.model_copy(update={"compile": True})
    ours = Ours(compiled, data.training, num_step_rows=64, num_epoch_rows=64)
    assert next(steps, None) is None
    assert ours.compilation_s(steps_s=0.5, epoch_s=1.0) == 9.0 + 2.0 + 0.5 + 5.0 - 3 * 0.5 - 1.0
    assert ours.compilation_s(steps_s=9.0, epoch_s=9.0) == 0
    assert Ours(trial, data.training, 64, 64).compilation_s(steps_s=0.0, epoch_s=0.0) == 0


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
        "snapshot",
        "trial, fp32",
    }
    assert figures.keys() - {"peak memory, fp32"} == expected
    for name, row in figures.items():
        assert name in printed
        values = list(row["ours"].values())
        if name not in ("data loading", "snapshot"):
            values += [*row["port"].values(), row["ratio"]]
        if name.split(",")[0] in floors | {"metrics", "trial"}:
            values += [row["floor"], row["gap"]]
        assert all(math.isfinite(value) and value > 0 for value in values), row
        assert row["ours"]["low"] <= row["ours"]["median"] <= row["ours"]["high"]
    whole, epoch, validation = (figures[f"{name}, fp32"] for name in ("trial", "epoch", "validation"))
    for side in ("ours", "port"):
        parts = 210 * epoch[side]["median"] + 40 * validation[side]["median"]
        assert whole[side]["median"] == pytest.approx(parts)
    assert whole["floor"] == pytest.approx(210 * epoch["floor"] + 40 * validation["floor"])
    assert "28 test images" in figures["snapshot"]["note"] and figures["snapshot"]["port"] is None


@pytest.mark.usefixtures("quick_compiler")
def test_compiled_trial_includes_its_compilation() -> None:
    tiny = "--encoder resnet8 --items 40 --batch-size 20 --repeats 1 --skip-port --device cpu --compile"
    _, rows = bench.run(tiny.split())
    seconds = {row.figure: row.ours.median for row in rows}
    compilation = {name for name in seconds if name.startswith("compilation")}
    assert compilation == {"compilation, fp32 compiled"}
    assert seconds["compilation, fp32 compiled"] > seconds["epoch, fp32 compiled"]
    for label, once in (("fp32", 0.0), ("fp32 compiled", seconds["compilation, fp32 compiled"])):
        parts = 210 * seconds[f"epoch, {label}"] + 40 * seconds["validation, fp32"]
        assert seconds[f"trial, {label}"] == pytest.approx(parts + once)


def test_port_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_machine, "NUM_RATES", 1)  # a CPU without bfloat16 takes a second for one
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
        (["--compile", "--precision", "fp32", "bf16"], "one --precision"),
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
