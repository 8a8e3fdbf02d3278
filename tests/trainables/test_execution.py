from collections.abc import Iterator
from typing import Any

import pytest
import torch
from short_trials import colour_trial, fit_reports, fit_states, short_trial, without_times
from torch import Tensor, nn
from torch._dynamo.utils import counters

from trainables import execution, training
from trainables.config import HeadConfig, HeadKind, TrialConfig, WarmupConfig
from trainables.execution import (
    choose_device,
    cudnn_choices,
    deterministic_algorithms,
    place_model,
)
from trainables.heads import HEADS
from trainables.images import Dataset
from trainables.models import Embedder, build_model
from trainables.validation import embed

CPU = torch.device("cpu")


@pytest.fixture
def warm_models() -> Iterator[None]:
    """No model is warm before the test, none stays warm after it."""

    def cool() -> None:
        execution._WARM_MODELS.clear()
        torch.compiler.reset()
        counters.clear()

    cool()
    yield
    cool()


@pytest.fixture
def quick_compiler(warm_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile that captures graphs as ever, but runs them without generating code."""
    compile_with = torch.compile

    def compile_quickly(model: nn.Module, dynamic: bool, mode: str) -> object:
        return compile_with(model, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_quickly)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a deterministic training puts into the environment."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def compiled_trial(**changes: Any) -> TrialConfig:
    # 1,197 items are 3 batches of 399: one graph a phase.
    settings = {"warmup": WarmupConfig(epochs=1), "epochs": 1, "batch_size": 399, "compile": True}
    return short_trial(**(settings | changes))


def eager(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"compile": False})


def assert_close_states(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def torch_settings() -> dict[str, object]:
    cudnn = torch.backends.cudnn
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "matmul precision": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "gradients": torch.is_grad_enabled(),
        "random state": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
    }


@pytest.mark.usefixtures("tiles", "clean_environment")
def test_deterministic_training_repeats_bit_for_bit() -> None:
    config = colour_trial(deterministic=True)
    assert config.augmentation == "trivial_augment_wide"
    first, again = fit_states(config), fit_states(config)
    assert len(first) == len(again) == 2
    for one, two in zip(first, again, strict=True):
        assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.usefixtures("tiles", "clean_environment")
def test_deterministic_reports_repeat_and_leave_torchs_settings_alone() -> None:
    config = colour_trial(deterministic=True, num_views=2, epochs=1, batch_size=32)
    before = torch_settings()
    first = fit_reports(config)
    torch.rand(7)
    second = fit_reports(config)
    assert [without_times(r.metrics) for r in first] == [without_times(r.metrics) for r in second]
    after = torch_settings()
    assert before.pop("random state") != after.pop("random state")  # by torch.rand above
    assert after == before


@pytest.mark.usefixtures("tiles")
def test_tiles_are_learned_through_the_augmentation() -> None:
    (report,) = fit_reports(
        colour_trial(
            head=HeadConfig(kind="none"), epochs=4, validate_every=4, optimizer={"head_lr": 1e-3}
        )
    )
    assert report.metrics["knn_accuracy"] > 0.8


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("deterministic", [False, True])
def test_determinism_is_demanded_in_training_steps_only(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    found: dict[str, set[bool]] = {"step": set(), "validation": set()}

    def spy(place: str, name: str) -> None:
        function = getattr(training, name)

        def record(*args: Any) -> Any:
            found[place].add(torch.are_deterministic_algorithms_enabled())
            return function(*args)

        monkeypatch.setattr(training, name, record)

    spy("step", "supcon_loss")
    spy("validation", "validate")
    fit_reports(short_trial(epochs=1, deterministic=deterministic))
    assert found == {"step": {deterministic}, "validation": {False}}


@pytest.mark.usefixtures("clean_environment")
def test_training_that_fails_leaves_torchs_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        raise MemoryError("in the middle of a step")

    monkeypatch.setattr(training, "supcon_loss", fail)
    before = torch_settings()
    with pytest.raises(MemoryError, match="in the middle of a step"):
        fit_reports(short_trial(deterministic=True, warmup=WarmupConfig(epochs=1)))
    assert torch_settings() == before


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize(("enabled", "warn_only"), [(False, False), (True, False), (True, True)])
def test_the_callers_own_choice_of_determinism_comes_back(enabled: bool, warn_only: bool) -> None:
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    try:
        before = torch_settings()
        with deterministic_algorithms(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch_settings() == before
        with deterministic_algorithms(False):
            assert torch_settings() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_times_its_algorithms_unless_deterministic(deterministic: bool) -> None:
    before = torch_settings()
    with cudnn_choices(short_trial(deterministic=deterministic)):
        assert torch.backends.cudnn.benchmark is not deterministic
        assert torch.backends.cudnn.deterministic is deterministic
    assert torch_settings() == before


@pytest.mark.parametrize(("has_gpu", "automatic"), [(False, "cpu"), (True, "cuda")])
def test_automatic_device_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, automatic: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device(short_trial(device="auto")) == torch.device(automatic)
    assert choose_device(short_trial(device="cpu")) == CPU


def test_eager_trials_have_models_of_their_own() -> None:
    first, second = (place_model(short_trial(), CPU) for _ in range(2))
    assert first.model is not second.model
    assert first.replica is first.model
    assert execution._WARM_MODELS == {}


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("kind", HEADS)
def test_compiled_training_equals_the_eager_one(kind: HeadKind) -> None:
    config = compiled_trial(head=HeadConfig(kind=kind))
    (compiled,), (expected,) = fit_states(config), fit_states(eager(config))
    assert_close_states(compiled, expected)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.usefixtures("quick_compiler")
def test_second_trial_reuses_the_compiled_model() -> None:
    fit_reports(compiled_trial(seed=1, batch_size=400))
    num_graphs = counters["stats"]["unique_graphs"]
    # Two phases, each with a whole batch and an incomplete one.
    assert num_graphs == 4
    other = {"temperature": 0.2, "optimizer": {"head_lr": 1e-3}, "epochs": 2}
    with torch.compiler.set_stance("fail_on_recompile"):
        fit_reports(compiled_trial(seed=2, batch_size=400, **other))
    assert counters["stats"]["unique_graphs"] == num_graphs


@pytest.mark.usefixtures("quick_compiler")
def test_second_trial_does_not_know_of_the_first() -> None:
    fit_reports(compiled_trial(seed=1, epochs=2, optimizer={"head_lr": 1e-2}))
    config = compiled_trial(seed=2)
    assert_close_states(fit_states(config)[0], fit_states(eager(config))[0])


@pytest.mark.usefixtures("quick_compiler")
def test_compiled_trial_repeats_bit_for_bit_after_another() -> None:
    (first,) = fit_states(compiled_trial(seed=2))
    fit_reports(compiled_trial(seed=1))
    (again,) = fit_states(compiled_trial(seed=2))
    assert [name for name in first if not torch.equal(first[name], again[name])] == []


@pytest.mark.usefixtures("quick_compiler")
def test_warm_model_is_handed_on_as_if_new(monkeypatch: pytest.MonkeyPatch) -> None:
    # A trial that ends in its warm-up leaves a frozen encoder and gradients.
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(training.AdamW, "step", fail)
        with pytest.raises(MemoryError):
            fit_reports(compiled_trial(seed=1))
    (left,) = execution._WARM_MODELS.values()
    assert not any(parameter.requires_grad for parameter in left.model.encoder.parameters())
    placed = place_model(compiled_trial(seed=2), CPU)
    assert placed is left
    expected = build_model(compiled_trial(seed=2)).state_dict()
    got = placed.model.state_dict()
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []
    assert all(p.requires_grad and p.grad is None for p in placed.model.parameters())


@pytest.mark.usefixtures("quick_compiler")
def test_warm_parameters_stay_where_they_are_in_memory() -> None:
    first, again = (
        [p.data_ptr() for p in place_model(compiled_trial(seed=seed), CPU).model.encoder.parameters()]
        for seed in (1, 2)
    )
    assert first == again


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"channels_last": False},
        {"batch_size": 400},
        {"num_views": 2},
        {"data": {"num_training_items": 400}},
    ],
    ids=str,
)
def test_encoder_of_another_shape_has_its_own_model(changes: dict[str, Any]) -> None:
    first = place_model(compiled_trial(), CPU)
    second = place_model(compiled_trial(**changes), CPU)
    assert first.model is not second.model
    assert list(execution._WARM_MODELS.values()) == [second]
    assert second.model.precision == build_model(compiled_trial(**changes)).precision


@pytest.mark.usefixtures("quick_compiler")
def test_trials_with_any_head_share_the_compiled_encoder() -> None:
    heads = [
        HeadConfig(kind="none"),
        HeadConfig(kind="mlp", depth=2),
        HeadConfig(kind="mlp", width_ratio=1.0),
        HeadConfig(kind="monotonic"),
    ]
    fit_reports(compiled_trial(head=heads[-1], batch_size=400))
    with torch.compiler.set_stance("fail_on_recompile"):
        for head in heads:
            config = compiled_trial(head=head, seed=2, batch_size=400)
            assert_close_states(fit_states(config)[0], fit_states(eager(config))[0])


@pytest.mark.usefixtures("quick_compiler")
def test_many_batch_sizes_in_one_process_are_all_compiled() -> None:
    # torch compiles one function for 8 shapes and then no more; each batch size is 4 of them.
    for batch_size in (300, 350, 400, 450):
        counters.clear()
        fit_reports(compiled_trial(batch_size=batch_size))
        assert counters["stats"]["unique_graphs"] == 4


@pytest.mark.usefixtures("quick_compiler")
def test_running_out_of_recompilations_is_an_error() -> None:
    placed = place_model(compiled_trial(), CPU)

    def run_shapes() -> None:
        for num_items in range(2, 20):
            placed.replica(torch.rand(num_items, 1, 8, 8))

    with pytest.raises(Exception, match="recompile_limit"):
        run_shapes()


@pytest.mark.slow
@pytest.mark.usefixtures("warm_models")
def test_generated_code_gives_the_eager_metrics_for_every_seed() -> None:
    for seed in (1, 2):
        config = compiled_trial(seed=seed, epochs=2)
        stance = "default" if seed == 1 else "fail_on_recompile"
        with torch.compiler.set_stance(stance):
            compiled = fit_reports(config)
        for got, expected in zip(compiled, fit_reports(eager(config)), strict=True):
            assert got.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], rel=1e-3)
            assert got.metrics["knn_accuracy"] == pytest.approx(
                expected.metrics["knn_accuracy"], abs=0.02
            )


def dtypes_inside(model: Embedder, items: Tensor) -> dict[str, tuple[torch.dtype, torch.dtype, bool]]:
    """What goes into encoder and head, what comes out, and whether autocast was on."""
    found = {}

    def record(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            found[name] = inputs[0].dtype, output.dtype, torch.is_autocast_enabled("cpu")

        getattr(model, name).register_forward_hook(hook)

    record("encoder")
    record("head")
    model(items)
    return found


def test_bf16_is_for_the_encoder_alone() -> None:
    model = build_model(short_trial(precision="bf16"))
    items = torch.rand(4, 1, 8, 8)
    single, half = torch.float32, torch.bfloat16
    assert dtypes_inside(model, items) == {
        "encoder": (single, half, True),
        "head": (single, single, False),
    }
    assert {stage.dtype for stage in model.features(items)} == {single}
    floating = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floating} == {single}


def test_fp32_never_enters_autocast() -> None:
    found = dtypes_inside(build_model(short_trial()), torch.rand(4, 1, 8, 8))
    assert set(found.values()) == {(torch.float32, torch.float32, False)}


def test_head_of_bf16_is_computed_as_in_fp32() -> None:
    model = build_model(short_trial(precision="bf16")).eval()
    features = model.features(torch.rand(4, 1, 8, 8))
    assert torch.equal(features.projected, model.head(features.encoded))
    assert torch.equal(features.embedding, nn.functional.normalize(features.projected, dim=1))
    assert torch.equal(features.encoded, features.encoded.bfloat16().float())


@pytest.mark.parametrize("kind", HEADS)
def test_bf16_trains_close_to_fp32(kind: HeadKind) -> None:
    # Over 3 seeds the losses differed by up to 0.025 %.
    single, half = (
        fit_reports(short_trial(head=HeadConfig(kind=kind), precision=precision))
        for precision in ("fp32", "bf16")
    )
    for one, two in zip(single, half, strict=True):
        assert two.metrics["train_loss"] == pytest.approx(one.metrics["train_loss"], rel=2e-3)
        # The outputs of a monotonic head are still nearly equal after 2 epochs: 0.05 apart or more.
        if kind != "monotonic":
            assert two.metrics["knn_accuracy"] == pytest.approx(one.metrics["knn_accuracy"], abs=0.03)


def test_bf16_moves_the_statistics_in_fp32(tiles: Dataset) -> None:
    model = build_model(colour_trial(precision="bf16")).train()
    model(tiles.training.items[:16])
    means = [b for name, b in model.named_buffers() if name.endswith("running_mean")]
    assert all(mean.dtype == torch.float32 and mean.any() for mean in means)
    assert not any(torch.equal(mean, mean.bfloat16().float()) for mean in means)


def test_channels_last_is_a_layout_of_the_encoder(tiles: Dataset) -> None:
    models = {flag: build_model(colour_trial(channels_last=flag)).eval() for flag in (True, False)}
    for flag, model in models.items():
        weight = model.encoder.state_dict()["3.residual.0.weight"]
        assert weight.is_contiguous(memory_format=torch.channels_last) is flag
    first, second = (embed(model, tiles.validation) for model in models.values())
    torch.testing.assert_close(first.encoded, second.encoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.embedding, second.embedding, rtol=1e-4, atol=1e-5)


def test_channels_last_trains_as_the_other_layout_does() -> None:
    first, second = (fit_reports(short_trial(channels_last=flag)) for flag in (True, False))
    for one, two in zip(first, second, strict=True):
        assert one.metrics["train_loss"] == pytest.approx(two.metrics["train_loss"], rel=1e-3)
        assert one.metrics["knn_accuracy"] == pytest.approx(two.metrics["knn_accuracy"], abs=0.02)
