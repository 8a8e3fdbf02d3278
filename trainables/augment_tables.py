"""Tables of TrivialAugment's operations, made once a process by running torchvision on Pillow images.

What an operation does at one strength is either where each pixel comes from (`sources`) or which
value a value becomes (`values`). Both are read off Pillow itself, so they hold its roundings, its
special cases (a square rotated by 90 degrees) and its order of arithmetic.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op
from torchvision.transforms.functional import InterpolationMode

NUM_MAGNITUDES = 31
_SPACE = TrivialAugmentWide(NUM_MAGNITUDES)._augmentation_space(NUM_MAGNITUDES)
OPERATIONS = tuple(_SPACE)
IS_SIGNED = tuple(is_signed for _, is_signed in _SPACE.values())


class Stage(IntEnum):
    """What an image goes through; LUMA to EXTREMES look values up under a key of that name."""

    KEEP = 0
    WARP = 1
    LOOK_UP = 2
    LUMA = 3
    GREY_MEAN = 4
    SMOOTHED = 5
    EXTREMES = 6
    EQUALIZE = 7


_STAGES = {
    "Identity": Stage.KEEP,
    "ShearX": Stage.WARP,
    "ShearY": Stage.WARP,
    "TranslateX": Stage.WARP,
    "TranslateY": Stage.WARP,
    "Rotate": Stage.WARP,
    "Brightness": Stage.LOOK_UP,
    "Color": Stage.LUMA,
    "Contrast": Stage.GREY_MEAN,
    "Sharpness": Stage.SMOOTHED,
    "Posterize": Stage.LOOK_UP,
    "Solarize": Stage.LOOK_UP,
    "AutoContrast": Stage.EXTREMES,
    "Equalize": Stage.EQUALIZE,
}
_BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")


class Tables(NamedTuple):
    """All operations at all strengths, for images of one size.

    Attributes:
        settings: a row for each `setting_number`: its stage, its row of `sources` and where its part
            of `values` starts. What a stage doesn't use leads to the row or part that changes nothing.
        sources: the pixel to take, counted from 1 row by row; 0 is black.
        values: in each part, entry 256 * key + value is what the value becomes.
    """

    settings: Int32[Tensor, "setting 3"]
    sources: Int32[Tensor, "row pixel"]
    values: UInt8[Tensor, " entry"]


def setting_number(operation: Tensor, magnitude: Tensor, is_negative: Tensor) -> Tensor:
    """The row of `Tables.settings`."""
    return (operation * NUM_MAGNITUDES + magnitude) * 2 + is_negative


def signed_magnitude(name: str, magnitude: int, is_negative: bool) -> float:
    """The number that torchvision hands to an operation (0 where it takes none)."""
    magnitudes, is_signed = _SPACE[name]
    size = float(magnitudes[magnitude].item()) if magnitudes.ndim > 0 else 0.0
    return -size if is_signed and is_negative else size


def apply_with_pillow(image: Image.Image, name: str, magnitude: float) -> Image.Image:
    """One operation as `TrivialAugmentWide` with its defaults applies it."""
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=4)
def build_tables(size: tuple[int, int]) -> Tables:
    """The tables for images of `size` = (height, width); about 21 MB of `values`, whatever the size."""
    num_pixels = size[0] * size[1]
    settings, sources = [], [torch.arange(1, num_pixels + 1, dtype=torch.int32)]
    values = _Parts()
    values.start("unchanged", lambda: torch.arange(256, dtype=torch.uint8))
    for name, step, is_negative in itertools.product(OPERATIONS, range(NUM_MAGNITUDES), (False, True)):
        magnitude = signed_magnitude(name, step, is_negative)
        stage, row, start = _STAGES[name], 0, 0
        if stage == Stage.WARP:
            row = len(sources)
            sources.append(_warp_sources(name, magnitude, size))
        elif stage == Stage.EXTREMES:
            start = values.start(name, _stretched)
        elif name in _BLENDS:
            start = values.start(("blend", magnitude), functools.partial(_blended, 1.0 + magnitude))
        elif stage == Stage.LOOK_UP:
            start = values.start((name, magnitude), functools.partial(_mapped, name, magnitude))
        settings.append((int(stage), row, start))
    return Tables(torch.tensor(settings, dtype=torch.int32), torch.stack(sources), values.joined())


class _Parts:
    """Parts of one long table, each made once."""

    def __init__(self) -> None:
        self._starts: dict[object, int] = {}
        self._parts: list[UInt8[Tensor, " entry"]] = []
        self._length = 0

    def start(self, key: object, make: Callable[[], UInt8[Tensor, "..."]]) -> int:
        if key not in self._starts:
            self._starts[key] = self._length
            self._parts.append(make().flatten())
            self._length += len(self._parts[-1])
        return self._starts[key]

    def joined(self) -> UInt8[Tensor, " entry"]:
        return torch.cat(self._parts)


def _warp_sources(name: str, magnitude: float, size: tuple[int, int]) -> Int32[Tensor, " pixel"]:
    """Where each pixel comes from: the operation on an image whose colours count its pixels.

    Nearest resampling copies whole pixels, so what it does to this image it does to all.
    """
    numbers = np.arange(1, size[0] * size[1] + 1).reshape(size)
    colours = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=2).astype(np.uint8)
    warped = np.asarray(apply_with_pillow(Image.fromarray(colours), name, magnitude)).astype(np.int32)
    return torch.from_numpy(warped @ np.array([1, 256, 65536], dtype=np.int32)).flatten()


def _mapped(name: str, magnitude: float) -> UInt8[Tensor, "1 value"]:
    """What each of the 256 values becomes."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return _to_tensor(apply_with_pillow(ramp, name, magnitude))


def _blended(factor: float) -> UInt8[Tensor, "degenerate value"]:
    """Pillow's blend of each degenerate value (the key) with each value."""
    value = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    degenerate = np.ascontiguousarray(value.T)
    return _to_tensor(Image.blend(Image.fromarray(degenerate), Image.fromarray(value), factor))


def _stretched() -> UInt8[Tensor, "lowest highest value"]:
    """AutoContrast of each value between each pair of extremes (the key is 256 * lowest + highest).

    Pillow's float64 arithmetic, product by product: exact quotients would differ by one at places.
    """
    table = torch.arange(256, dtype=torch.uint8).repeat(256, 256, 1)
    # `255.0 / tensor` would be a product with the reciprocal, which rounds twice.
    scale_R = torch.tensor(255.0, dtype=torch.float64) / torch.arange(1, 256)
    scaled_RV = torch.arange(256, dtype=torch.float64) * scale_R[:, None]
    for lowest in range(255):
        possible_RV = scaled_RV[: 255 - lowest]
        shifted_RV = possible_RV - possible_RV[:, lowest, None]
        table[lowest, lowest + 1 :] = shifted_RV.trunc().clamp(0, 255).to(torch.uint8)
    return table


def _to_tensor(image: Image.Image) -> UInt8[Tensor, "..."]:
    return torch.from_numpy(np.array(image))
