import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from short_trials import (
    FROZEN,
    NO_WARMUP,
    NUM_STEPS,
    fit_reports,
    fit_states,
    last_validation,
    short_trial,
    without_times,
)
from torch import Tensor
from torch.optim import AdamW

from trainables.config import HeadConfig, HeadKind, OptimizerConfig, TrialConfig, WarmupConfig
from trainables.heads import HEADS
from trainables.images import Dataset, Subset
from trainables.losses import supcon_loss
from trainables.models import build_model
from trainables.randomness import generator
from trainables.reports import TRAINING_METRICS, DivergedError, EpochReport, metrics_of
from trainables.training import choose_device, fit, is_patience_exhausted, main_optimizer, time_step
from trainables.validation import embed, validate


def moved(before: dict[str, Tensor], after: dict[str, Tensor], prefix: str) -> bool:
    weights = [name for name in before if name.startswith(prefix) and name.endswith(("weight", "bias"))]
    assert weights
    # Weights that start at 0 do move at the rate of FROZEN, by 1e-30 a step.
    changed = [not torch.allclose(before[name], after[name], rtol=0, atol=1e-20) for name in weights]
    assert any(changed) == all(changed)
    return any(changed)


def test_warm_up_trains_the_head_and_only_moves_the_encoders_statistics() -> None:
    warmup = WarmupConfig(epochs=2, head_lr=1e-3)
    config = short_trial(warmup=warmup, optimizer=FROZEN, epochs=1)
    before = build_model(config).state_dict()
    (after,) = fit_states(config)
    assert moved(before, after, "head.")
    assert not moved(before, after, "encoder.")
    assert int(after["encoder.1.num_batches_tracked"]) == (2 + 1) * NUM_STEPS
    assert not torch.equal(before["encoder.1.running_mean"], after["encoder.1.running_mean"])


def test_encoder_trains_again_after_the_warm_up() -> None:
    config = short_trial(warmup=WarmupConfig(epochs=1), epochs=1)
    before = build_model(config).state_dict()
    (after,) = fit_states(config)
    assert moved(before, after, "head.")
    assert moved(before, after, "encoder.")


def test_baseline_has_no_warm_up() -> None:
    head = HeadConfig(kind="none")
    (with_warmup,) = fit_states(short_trial(head=head, epochs=1, warmup=WarmupConfig(epochs=3)))
    (without,) = fit_states(short_trial(head=head, epochs=1, warmup=NO_WARMUP))
    assert int(with_warmup["encoder.1.num_batches_tracked"]) == NUM_STEPS
    assert all(torch.equal(with_warmup[name], without[name]) for name in without)


@pytest.mark.parametrize("kind", HEADS)
def test_learning_rates_of_head_and_encoder_reach_the_optimizer(kind: HeadKind) -> None:
    settings = OptimizerConfig(head_lr=3e-4, encoder_lr_ratio=0.1, weight_decay=0.02)
    config = short_trial(head=HeadConfig(kind=kind), optimizer=settings)
    model = build_model(config)
    optimizer = main_optimizer(config, model)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    expected = {id(p): (pytest.approx(3e-5), 0.02) for p in model.encoder.parameters()}
    expected |= {id(p): (3e-4, 0.02) for p in model.head.parameters()}
    assert isinstance(optimizer, AdamW)
    assert found == expected


def test_head_trains_at_its_own_learning_rate() -> None:
    config = short_trial(optimizer=OptimizerConfig(encoder_lr_ratio=1e-30), epochs=1)
    before = build_model(config).state_dict()
    (after,) = fit_states(config)
    assert moved(before, after, "head.")
    assert not moved(before, after, "encoder.")


def reference_states(config: TrialConfig, data: Subset) -> list[dict[str, Tensor]]:
    """The main phase without its framework: AdamW, clipping, lr_k = lr (1 + cos(pi k / epochs)) / 2."""
    model, order = build_model(config).train(), generator(config.seed, "order")
    optimizer = AdamW(model.parameters(), weight_decay=config.optimizer.weight_decay, fused=True)
    states = []
    for epoch in range(config.epochs):
        for settings in optimizer.param_groups:
            settings["lr"] = (
                config.optimizer.head_lr * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
            )
        for rows in torch.randperm(len(data), generator=order).split(config.batch_size):
            optimizer.zero_grad()
            loss = supcon_loss(model(data.items[rows]), data.labels[rows], config.temperature).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
            optimizer.step()
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return states


def test_main_phase_is_clipped_adamw_with_a_cosine_over_the_epochs(digits: Dataset) -> None:
    optimizer = OptimizerConfig(head_lr=2e-3, weight_decay=0.1, clip_norm=0.5)
    config = short_trial(head=HeadConfig(kind="mlp"), optimizer=optimizer, epochs=3)
    states, expected = fit_states(config), reference_states(config, digits.training)
    assert len(states) == len(expected) == 3
    for got, reference in zip(states, expected, strict=True):
        for name, tensor in reference.items():
            torch.testing.assert_close(got[name], tensor, rtol=1e-4, atol=1e-6)


def reports_of(accuracies: dict[int, float]) -> list[EpochReport]:
    return [EpochReport(epoch, {"knn_accuracy": accuracy}) for epoch, accuracy in accuracies.items()]


def test_patience_counts_epochs_since_the_last_strict_improvement() -> None:
    # Best at epoch 15; 0.7 again at 20 is no improvement; 15 + 20 = 35 is the end.
    reports = reports_of({5: 0.5, 10: 0.6, 15: 0.7, 20: 0.7, 25: 0.69, 30: 0.7, 35: 0.2})
    found = [
        is_patience_exhausted(reports[: number + 1], 20, "knn_accuracy")
        for number in range(len(reports))
    ]
    assert found == [False] * 6 + [True]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1), st.integers(1, 6))
def test_patience_equals_a_counter(accuracies: list[float], epochs: int) -> None:
    best, best_epoch = float("-inf"), 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        if accuracy > best:
            best, best_epoch = accuracy, epoch
        so_far = reports_of(dict(enumerate(accuracies[:epoch], start=1)))
        assert is_patience_exhausted(so_far, epochs, "knn_accuracy") == (epoch - best_epoch >= epochs)


def test_endless_patience_is_never_exhausted() -> None:
    assert not is_patience_exhausted(reports_of({1: 0.9, 1000: 0.0}), None, "knn_accuracy")


def test_training_without_progress_stops_when_patience_is_exhausted() -> None:
    # Weights rest, and after some epochs so do the BatchNorm statistics and the accuracy.
    config = short_trial(head=HeadConfig(kind="none"), optimizer=FROZEN, epochs=60, patience_epochs=3)
    reports = fit_reports(config)
    accuracies = [report.metrics["knn_accuracy"] for report in reports]
    assert len(reports) < 60
    assert reports[-1].epoch - (accuracies.index(max(accuracies)) + 1) == 3


@pytest.mark.parametrize("kind", HEADS)
def test_training_that_explodes_is_called_diverged(kind: HeadKind) -> None:
    config = short_trial(head=HeadConfig(kind=kind), optimizer=OptimizerConfig(head_lr=1e30))
    with pytest.raises(DivergedError, match="lower optimizer") as caught:
        fit_reports(config)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.epoch, copy.phase, str(copy)) == (1, "main", str(caught.value))


def test_warm_up_that_explodes_is_called_diverged() -> None:
    with pytest.raises(DivergedError, match="warm-up epoch 1"):
        fit_reports(short_trial(warmup=WarmupConfig(epochs=2, head_lr=1e30)))


@pytest.mark.parametrize("kind", HEADS)
def test_same_seed_gives_the_same_reports(kind: HeadKind) -> None:
    config = short_trial(head=HeadConfig(kind=kind), warmup=WarmupConfig(epochs=1))
    torch.manual_seed(0)
    first = fit_reports(config)
    again = fit_reports(config)
    assert [without_times(r.metrics) for r in first] == [without_times(r.metrics) for r in again]
    assert [r.epoch for r in first] == [r.epoch for r in again] == [1, 2]


def test_another_seed_gives_other_reports() -> None:
    first, other = (fit_reports(short_trial(seed=seed, epochs=1))[0].metrics for seed in (1, 2))
    assert first["train_loss"] != other["train_loss"]
    assert first["reconstruction_error"] != other["reconstruction_error"]


def test_every_head_sees_the_same_batches() -> None:
    # Lonely anchors depend on the composition of the batches alone; 1,197 items in batches of 8.
    shares = {
        kind: [
            report.metrics["no_positive_share"]
            for report in fit_reports(short_trial(head=HeadConfig(kind=kind), batch_size=8))
        ]
        for kind in HEADS
    }
    assert shares["none"] == shares["mlp"] == shares["monotonic"]
    assert shares["none"][0] != shares["none"][1]


def test_warm_up_does_not_shift_the_batches_of_the_main_phase() -> None:
    warmups = [NO_WARMUP, WarmupConfig(epochs=1)]
    found = [fit_reports(short_trial(warmup=warmup, epochs=1, batch_size=8)) for warmup in warmups]
    shares = [reports[0].metrics["no_positive_share"] for reports in found]
    assert shares[0] == shares[1] > 0


def test_share_of_lonely_anchors_is_that_of_the_shuffled_batches(digits: Dataset) -> None:
    labels = digits.training.labels
    order = torch.randperm(len(labels), generator=generator(42, "order"))
    lonely = 0
    for batch in labels[order].split(8):
        lonely += sum(batch.tolist().count(label) == 1 for label in batch.tolist())
    (report,) = fit_reports(short_trial(epochs=1, batch_size=8))
    assert report.metrics["no_positive_share"] == pytest.approx(lonely / 1197, rel=1e-5)


def test_training_loss_is_the_mean_over_all_anchors(digits: Dataset) -> None:
    config = short_trial(optimizer=FROZEN, epochs=1)
    model = build_model(config).train()
    order = torch.randperm(1197, generator=generator(config.seed, "order"))
    total = 0.0
    for rows in order.split(config.batch_size):
        items, labels = digits.training.items[rows], digits.training.labels[rows]
        total += float(supcon_loss(model(items), labels, config.temperature).loss.detach()) * len(rows)
    (report,) = fit_reports(config)
    assert report.metrics["train_loss"] == pytest.approx(total / 1197, rel=1e-5)


def test_every_report_has_exactly_the_announced_metrics() -> None:
    for report in fit_reports(short_trial()):
        assert set(report.metrics) == set(metrics_of("classification"))
        assert all(type(value) is float and math.isfinite(value) for value in report.metrics.values())


def test_every_epoch_is_told_exactly_once() -> None:
    reports = fit_reports(short_trial(epochs=5, validate_every=2))
    told = [(report.epoch, list(report.training)) for report in reports]
    assert told == [(2, [1, 2]), (4, [3, 4]), (5, [5])]
    for report in reports:
        assert all(set(values) == set(TRAINING_METRICS) for values in report.training.values())
        last = report.training[report.epoch]
        assert last == {name: report.metrics[name] for name in TRAINING_METRICS}


def test_last_epoch_is_validated_whatever_the_interval() -> None:
    reports = fit_reports(short_trial(epochs=3, validate_every=50))
    assert [report.epoch for report in reports] == [3]
    assert list(reports[0].training) == [1, 2, 3]


def test_validating_more_rarely_changes_no_number() -> None:
    every, rarely = (fit_reports(short_trial(epochs=3, validate_every=n)) for n in (1, 3))
    assert without_times(every[-1].metrics) == without_times(rarely[-1].metrics)


def test_error_of_the_listener_ends_the_training() -> None:
    def listener(validation: object) -> None:
        raise KeyError("the listener's own error")

    with pytest.raises(KeyError, match="the listener's own error"):
        fit(short_trial(), listener)


def test_listener_is_given_the_model_that_the_report_is_about() -> None:
    validation = last_validation(short_trial(epochs=1))
    again = validate(validation.model, validation.dataset).metrics
    expected = {name: validation.report.metrics[name] for name in without_times(again)}
    assert without_times(again) == expected
    assert validation.is_chief


def test_validation_leaves_the_models_tensors_alone(digits: Dataset) -> None:
    model = build_model(short_trial()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validate(model, digits)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_embedding_in_chunks_equals_embedding_at_once(digits: Dataset) -> None:
    # 1,197 items: many chunks of 64, the last one smaller.
    model = build_model(short_trial()).eval()
    with torch.no_grad():
        expected = model.features(digits.training.items)
    for got, reference in zip(embed(model, digits.training), expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-5, atol=1e-6)
        assert not got.requires_grad


def test_metrics_of_encoder_and_head_are_those_before_normalisation(digits: Dataset) -> None:
    baseline = validate(build_model(short_trial(head=HeadConfig(kind="none"))), digits).metrics
    mlp = validate(build_model(short_trial(head=HeadConfig(kind="mlp"))), digits).metrics
    assert baseline["encoder_d_eff"] == baseline["unnormalized_d_eff"] == mlp["encoder_d_eff"]
    assert mlp["encoder_d_eff"] != mlp["unnormalized_d_eff"]


def test_training_learns_to_tell_digits_apart() -> None:
    config = short_trial(head=HeadConfig(kind="mlp"), epochs=6, optimizer=OptimizerConfig(head_lr=2e-3))
    reports = fit_reports(config)
    losses = [report.metrics["train_loss"] for report in reports]
    assert losses == sorted(losses, reverse=True)
    assert reports[-1].metrics["knn_accuracy"] > 0.95


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_named_device_is_taken_as_it_is(device: str) -> None:
    assert choose_device(short_trial(device=device)) == torch.device(device)
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device(short_trial(device="auto")) == torch.device(automatic)


def test_timing_a_step_leaves_the_number_of_threads_alone() -> None:
    torch.set_num_threads(2)
    assert time_step(short_trial(batch_size=64), num_steps=1) > 0
    assert torch.get_num_threads() == 2


def test_a_model_that_explodes_in_its_last_step_has_diverged() -> None:
    # One step an epoch: the loss is taken before the step that destroys the model.
    config = short_trial(epochs=1, batch_size=1197, optimizer={"head_lr": 1e20}, warmup={"epochs": 0})
    with pytest.raises(DivergedError, match="embeddings are not finite in main epoch 1"):
        fit_reports(config)


def test_a_diverging_warm_up_names_its_own_rate() -> None:
    assert "lower warmup.head_lr" in str(DivergedError(3, "warm-up"))
    assert "lower optimizer.head_lr" in str(DivergedError(3, "main"))
