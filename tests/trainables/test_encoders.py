import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet34_Weights, resnet34

from trainables.config import HeadConfig, TrialConfig
from trainables.encoders import build_image_encoder, load_weights
from trainables.errors import WeightsError
from trainables.facts import EncoderKind
from trainables.heads import build_head
from trainables.models import build_model

STEM = "conv1.weight"
IMAGENET_FILE = ResNet34_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []


@pytest.fixture(scope="module")
def reference() -> ResNet:
    """torchvision's ResNet34, its BatchNorm statistics as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet34(weights=None)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def reference_files(reference: ResNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """torchvision's state dict in every format that is read, by suffix."""
    folder = tmp_path_factory.mktemp("weights")
    files = {suffix: folder / f"resnet34{suffix}" for suffix in (".pt", ".safetensors")}
    torch.save(reference.state_dict(), files[".pt"])
    save_file(reference.state_dict(), files[".safetensors"])
    return files


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of checkpoints, empty, on a machine without a network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


def test_resnet34_has_the_protocols_number_of_parameters() -> None:
    encoder = build_image_encoder("resnet34")
    assert num_parameters(encoder) == 21_276_992
    assert encoder.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    assert num_parameters(build_head(HeadConfig(), 512)) == 1_050_112


def test_stem_of_resnet34_keeps_every_pixel() -> None:
    encoder, shapes = build_image_encoder("resnet34").eval(), []
    first_layer = encoder.get_submodule("layer1")
    first_layer.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    encoder(torch.rand(1, 3, 32, 32))
    assert shapes == [(1, 64, 32, 32)]
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())


def test_resnet34_is_torchvisions_behind_the_stem(
    reference: ResNet, reference_files: dict[str, Path]
) -> None:
    encoder = build_image_encoder("resnet34").eval()
    load_weights(encoder, "resnet34", str(reference_files[".pt"]))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        stages = [torch.relu(reference.bn1(encoder.get_submodule("conv1")(images)))]
        for name in ("layer1", "layer2", "layer3", "layer4"):
            expected = reference.get_submodule(name)(stages[-1])
            assert torch.equal(encoder.get_submodule(name)(stages[-1]), expected)
            stages.append(expected)
        torch.testing.assert_close(encoder(images), stages[-1].mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_initial_stem_has_the_scale_of_its_fan_out() -> None:
    # He initialisation: variance 2 / (3 * 3 * 64), over 1,728 weights known to 3.4 %.
    stem = build_image_encoder("resnet34").state_dict()[STEM]
    assert float(stem.var()) == pytest.approx(2 / 576, rel=0.2)


def test_none_leaves_the_encoder_as_it_is() -> None:
    encoder = build_image_encoder("resnet8")
    before = copy_of(encoder)
    load_weights(encoder, "resnet8", "none")
    assert_same(encoder.state_dict(), before)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torchvisions_file_is_loaded_but_for_stem_and_classifier(
    reference: ResNet, reference_files: dict[str, Path], suffix: str
) -> None:
    encoder = build_image_encoder("resnet34")
    own_stem = encoder.state_dict()[STEM].clone()
    load_weights(encoder, "resnet34", str(reference_files[suffix]))
    expected = {n: t for n, t in reference.state_dict().items() if not n.startswith("fc.")}
    assert_same(encoder.state_dict(), expected | {STEM: own_stem})


def test_torchvisions_file_without_batch_counts_is_loaded(reference: ResNet, tmp_path: Path) -> None:
    # Files from before torch 0.4.1 have no num_batches_tracked.
    state = {n: t for n, t in reference.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    encoder = build_image_encoder("resnet34")
    load_weights(encoder, "resnet34", str(tmp_path / "old.pth"))
    assert torch.equal(
        encoder.state_dict()["layer4.2.bn2.running_var"], state["layer4.2.bn2.running_var"]
    )


@pytest.mark.parametrize("kind", ["resnet34", "resnet8"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_own_layout_is_loaded_whole(tmp_path: Path, kind: EncoderKind, suffix: str) -> None:
    source, encoder, path = (
        build_image_encoder(kind),
        build_image_encoder(kind),
        tmp_path / f"own{suffix}",
    )
    if suffix == ".pt":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    load_weights(encoder, kind, str(path))
    assert_same(encoder.state_dict(), source.state_dict())


def test_model_starts_from_the_file_that_its_configuration_names(tmp_path: Path) -> None:
    source = build_image_encoder("resnet8")
    torch.save(source.state_dict(), tmp_path / "own.pt")
    settings = {"encoder": "resnet8", "channels_last": True}
    config = TrialConfig.model_validate(settings | {"encoder_weights": str(tmp_path / "own.pt")})
    assert_same(build_model(config).encoder.state_dict(), source.state_dict())


def test_path_may_start_at_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source, encoder = build_image_encoder("resnet8"), build_image_encoder("resnet8")
    torch.save(source.state_dict(), tmp_path / "own.pt")
    load_weights(encoder, "resnet8", "~/own.pt")
    assert_same(encoder.state_dict(), source.state_dict())


def truncate(path: Path) -> None:
    torch.save(build_image_encoder("resnet8").state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


def reshape(path: Path) -> None:
    state = build_image_encoder("resnet8").state_dict()
    torch.save(state | {"0.weight": torch.ones(32, 3, 5, 5)}, path)


def leave_out(path: Path) -> None:
    state = build_image_encoder("resnet8").state_dict()
    del state["1.running_mean"]
    torch.save(state, path)


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda path: None, "is not a file; name a state dict, imagenet, or none"),
    "a folder": (lambda path: path.mkdir(), "is not a file"),
    "empty": (lambda path: path.touch(), "holds no state dict"),
    "truncated": (truncate, "holds no state dict"),
    "text": (lambda path: path.write_text("weights"), "holds no state dict, or more than tensors"),
    "a list": (lambda path: torch.save([torch.ones(1)], path), "holds no state dict"),
    "a checkpoint": (lambda path: torch.save({"state_dict": {}}, path), "holds no state dict"),
    "numbered": (lambda path: torch.save({0: torch.ones(1)}, path), "holds no state dict"),
    "no entries": (lambda path: torch.save({}, path), "does not fit resnet8: .*Missing key"),
    "incomplete": (leave_out, r"does not fit resnet8: .*Missing key.*1\.running_mean"),
    "another shape": (reshape, r"does not fit resnet8: .*size mismatch for 0\.weight"),
    "another network": (
        lambda path: torch.save(build_image_encoder("digits_cnn").state_dict(), path),
        "does not fit resnet8",
    ),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_unfit_file_is_refused(tmp_path: Path, fault: str) -> None:
    make, message = UNFIT[fault]
    make(tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=rf"(?s)^encoder_weights: .*weights\.pt {message}"):
        load_weights(build_image_encoder("resnet8"), "resnet8", str(tmp_path / "weights.pt"))


def test_encoder_of_a_snapshot_is_taken_without_its_head(tmp_path: Path) -> None:
    digits = TrialConfig(
        dataset="digits", encoder="digits_cnn", encoder_weights="none", augmentation="none"
    )
    model = build_model(digits.model_copy(update={"seed": 1}))
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    config = digits.model_copy(update={"encoder_weights": str(tmp_path / "weights.safetensors")})
    again = build_model(config).encoder.state_dict()
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(again[name], value), name


def test_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build_image_encoder("resnet8").state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"^encoder_weights: .*safetensors holds no state dict"):
        load_weights(build_image_encoder("resnet8"), "resnet8", str(path))


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def save_with_torch(content: object, path: Path) -> None:
    torch.save({"0.weight": content}, path)


def save_with_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [save_with_torch, save_with_pickle])
def test_code_in_a_file_is_refused_and_not_executed(
    tmp_path: Path, save: Callable[[object, Path], None]
) -> None:
    save(_Touch(tmp_path / "executed"), tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="or more than tensors"):
        load_weights(build_image_encoder("resnet8"), "resnet8", str(tmp_path / "weights.pt"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.usefixtures("hub")
def test_imagenet_without_a_network_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="connect to the network") as caught:
        load_weights(build_image_encoder("resnet34"), "resnet34", "imagenet")
    message = str(caught.value)
    assert "no network" in message and f"{tmp_path}/hub/checkpoints" in message
    assert "path of a state dict" in message and "none to train from scratch" in message


@pytest.mark.usefixtures("hub")
def test_training_without_its_imagenet_weights_does_not_start() -> None:
    config = TrialConfig(dataset="cifar100", device="cpu")
    with pytest.raises(WeightsError):
        build_model(config)


@pytest.mark.usefixtures("hub")
def test_imagenet_weights_are_not_needed_where_others_follow() -> None:
    assert num_parameters(build_model(TrialConfig(), with_initial_weights=False)) == 22_327_104


def test_imagenet_weights_are_taken_from_the_hubs_folder(
    hub: Path, reference: ResNet, reference_files: dict[str, Path]
) -> None:
    (hub / IMAGENET_FILE).symlink_to(reference_files[".pt"])
    encoder = build_image_encoder("resnet34")
    own_stem = encoder.state_dict()[STEM].clone()
    load_weights(encoder, "resnet34", "imagenet")
    expected = {n: t for n, t in reference.state_dict().items() if not n.startswith("fc.")}
    assert_same(encoder.state_dict(), expected | {STEM: own_stem})


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04"])
def test_broken_file_in_the_hubs_folder_is_refused(hub: Path, content: bytes) -> None:
    (hub / IMAGENET_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match="ImageNet weights of resnet34 cannot be had"):
        load_weights(build_image_encoder("resnet34"), "resnet34", "imagenet")


def test_code_in_the_hubs_folder_is_not_executed(hub: Path, tmp_path: Path) -> None:
    save_with_torch(_Touch(tmp_path / "executed"), hub / IMAGENET_FILE)
    with pytest.raises(WeightsError):
        load_weights(build_image_encoder("resnet34"), "resnet34", "imagenet")
    assert not (tmp_path / "executed").exists()


def test_resnet8_is_as_large_as_announced() -> None:
    encoder = build_image_encoder("resnet8")
    assert num_parameters(encoder) == 307_360
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 128)


@pytest.mark.parametrize("kind", ["resnet8", "resnet34"])
def test_gradient_reaches_every_parameter(kind: EncoderKind) -> None:
    encoder = build_image_encoder(kind).train()
    source = torch.Generator().manual_seed(0)
    encoded = encoder(torch.rand(4, 3, 32, 32, generator=source))
    (encoded * torch.randn(encoded.shape, generator=source)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert [n for n, g in gradients.items() if g is None or not g.isfinite().all()] == []
    assert [n for n, g in gradients.items() if g is not None and not g.any()] == []
