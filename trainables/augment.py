"""TrivialAugment and random erasing of whole batches of uint8 images, on any device.

Bit for bit what torchvision's `TrivialAugmentWide` and `RandomErasing` make of Pillow images one at a
time, without a loop over images. What is random is drawn beforehand on the CPU, so that it depends
neither on the device nor on how many workers share the data.

Erasing to 0 in uint8 is erasing to 0 after the division by 255, before normalisation.

Source: the paper's published code (TrivialAugment, division by 255, erasing, then normalisation);
Müller & Hutter (2021), TrivialAugment (wide); Zhong et al. (2020), random erasing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Int32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from trainables.augment_tables import (
    IS_SIGNED,
    NUM_MAGNITUDES,
    OPERATIONS,
    Stage,
    build_tables,
    setting_number,
)

ERASE_PROBABILITY = 0.25
ERASE_SCALE = (0.02, 0.2)
ERASE_RATIO = (0.3, 3.3)
_ERASE_ATTEMPTS = 10


class AugmentationDraw(NamedTuple):
    """What happens to each item, one row an item.

    Attributes:
        operation: index in `OPERATIONS`.
        magnitude: 0 to 30; operations of one strength disregard it.
        is_negative: turns the magnitude's sign; only true of operations that have one.
        top: the first row of the erased box.
        left: its first column.
        height: its rows; 0 where nothing is erased.
        width: its columns.
    """

    operation: Int[Tensor, " item"]
    magnitude: Int[Tensor, " item"]
    is_negative: Bool[Tensor, " item"]
    top: Int[Tensor, " item"]
    left: Int[Tensor, " item"]
    height: Int[Tensor, " item"]
    width: Int[Tensor, " item"]

    def rows(self, index: Int[Tensor, " row"]) -> AugmentationDraw:
        """The draws of some of the items."""
        return AugmentationDraw(*(column[index] for column in self))

    def to(self, device: torch.device | str) -> AugmentationDraw:
        return AugmentationDraw(*(column.to(device) for column in self))


def draw_augmentations(
    num_items: int, size: tuple[int, int], generator: torch.Generator
) -> AugmentationDraw:
    """Draws for `num_items` images of `size` = (height, width), distributed as torchvision's are."""
    operation = torch.randint(len(OPERATIONS), (num_items,), generator=generator)
    magnitude = torch.randint(NUM_MAGNITUDES, (num_items,), generator=generator)
    is_negative = torch.randint(2, (num_items,), generator=generator).bool()
    is_negative &= torch.tensor(IS_SIGNED)[operation]
    boxes = _draw_boxes(num_items, size, generator)
    return AugmentationDraw(operation, magnitude, is_negative, *boxes.unbind(1))


def _draw_boxes(
    num_items: int, size: tuple[int, int], generator: torch.Generator
) -> Int[Tensor, "item 4"]:
    """Top, left, height and width; all 0 for an item that keeps its pixels.

    As in torchvision, a box is drawn again until it is smaller than the image both ways, and after
    10 attempts the item keeps its pixels.
    """
    boxes = torch.zeros(num_items, 4, dtype=torch.long)
    is_erased = torch.rand(num_items, generator=generator) < ERASE_PROBABILITY
    items = is_erased.nonzero().squeeze(1)
    log_low, log_high = torch.tensor(ERASE_RATIO).log().tolist()
    for _ in range(_ERASE_ATTEMPTS):
        num_open = len(items)
        share = torch.empty(num_open).uniform_(*ERASE_SCALE, generator=generator)
        ratio = torch.empty(num_open).uniform_(log_low, log_high, generator=generator).exp().double()
        area = math.prod(size) * share.double()
        extent = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).round().long()
        room = torch.tensor(size) - extent
        place = torch.rand(num_open, 2, dtype=torch.float64, generator=generator) * (room + 1)
        is_valid = (room > 0).all(dim=1)
        boxes[items[is_valid]] = torch.cat([place.long(), extent], dim=1)[is_valid]
        items = items[~is_valid]
        if not len(items):
            break
    return boxes


class Augment(nn.Module):
    """Applies draws to a batch of images of one size.

    There are two ways through the same stages, with the same bytes. The dense one runs each stage over
    the whole batch with parameters that change nothing where it isn't meant: shapes are fixed and the
    host learns nothing of the data, as a CUDA graph needs it. The other one sorts the batch by stage
    and lets only those images pay for a stage that go through it; it reads the draw on the host.

    Attributes:
        size: height and width of the images.
    """

    settings: Int32[Tensor, "setting 3"]
    sources: Int32[Tensor, "row pixel"]
    values: UInt8[Tensor, " entry"]

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        for name, table in build_tables(size)._asdict().items():
            self.register_buffer(name, table, persistent=False)

    def forward(
        self,
        images: UInt8[Tensor, "item 3 h w"],
        draw: AugmentationDraw,
        is_dense: bool | None = None,
    ) -> UInt8[Tensor, "item 3 h w"]:
        """Transforms each image by its operation, then erases its box.

        Args:
            images: on the module's device.
            draw: a row an image, on the same device.
            is_dense: whether every stage runs over the whole batch; left out, it does except on a CPU.
        """
        assert tuple(images.shape[1:]) == (3, *self.size), (
            f"{tuple(images.shape)} is no {self.size} batch"
        )
        number = setting_number(draw.operation, draw.magnitude, draw.is_negative)
        settings = self.settings.index_select(0, number)
        is_dense = images.device.type != "cpu" if is_dense is None else is_dense
        transformed = (self._dense if is_dense else self._by_stage)(images, settings)
        return _erase(transformed, draw)

    def _dense(
        self, images: UInt8[Tensor, "item 3 h w"], settings: Int32[Tensor, "item 3"]
    ) -> UInt8[Tensor, "item 3 h w"]:
        stage, row, start = settings.unbind(1)
        stage = stage[:, None, None, None]
        warped = self._warp(images, row)
        key = torch.zeros_like(stage)
        for key_stage, key_of in _KEYS.items():
            key = torch.where(stage == key_stage.value, key_of(warped), key)
        looked_up = self._look_up(warped, start, key)
        return torch.where(stage == Stage.EQUALIZE.value, _equalize(warped), looked_up)

    def _by_stage(
        self, images: UInt8[Tensor, "item 3 h w"], settings: Int32[Tensor, "item 3"]
    ) -> UInt8[Tensor, "item 3 h w"]:
        order = settings[:, 0].argsort()
        counts = settings[:, 0].bincount(minlength=len(Stage)).tolist()
        images_by_stage = images.index_select(0, order).split(counts)
        settings_by_stage = settings.index_select(0, order).split(counts)
        done = [self._run(*part) for part in zip(Stage, images_by_stage, settings_by_stage, strict=True)]
        return torch.cat(done).index_select(0, order.argsort())

    def _run(
        self, stage: Stage, images: UInt8[Tensor, "item 3 h w"], settings: Int32[Tensor, "item 3"]
    ) -> UInt8[Tensor, "item 3 h w"]:
        """One stage for images that all go through it."""
        _, row, start = settings.unbind(1)
        if stage == Stage.KEEP:
            return images
        if stage == Stage.WARP:
            return self._warp(images, row)
        if stage == Stage.EQUALIZE:
            return _equalize(images)
        return self._look_up(images, start, _KEYS[stage](images) if stage in _KEYS else None)

    def _warp(
        self, images: UInt8[Tensor, "item 3 h w"], row: Int32[Tensor, " item"]
    ) -> UInt8[Tensor, "item 3 h w"]:
        """Takes each pixel from where the row of `sources` says."""
        with_black = functional.pad(images.flatten(2), (1, 0))
        source = self.sources.index_select(0, row).long()[:, None].expand(-1, 3, -1)
        return with_black.gather(2, source).view_as(images)

    def _look_up(
        self,
        images: UInt8[Tensor, "item 3 h w"],
        start: Int32[Tensor, " item"],
        key: Int32[Tensor, "item c y x"] | None,
    ) -> UInt8[Tensor, "item 3 h w"]:
        """Maps each value by the part of `values` that starts at `start`, under its key."""
        start = start[:, None, None, None]
        entry = (start if key is None else start + key * 256) + images
        return self.values.index_select(0, entry.flatten()).view_as(images)


def _luma(images: UInt8[Tensor, "item 3 h w"]) -> Int32[Tensor, "item 1 h w"]:
    """Pillow's conversion to grey."""
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)[:, None]


def _grey_mean(images: UInt8[Tensor, "item 3 h w"]) -> Int32[Tensor, "item 1 1 1"]:
    """The mean of an image's luma, rounded half up."""
    num_pixels = images.shape[2] * images.shape[3]
    total = _luma(images).sum(dim=(2, 3), keepdim=True)
    return ((2 * total + num_pixels) // (2 * num_pixels)).int()


def _smoothed(images: UInt8[Tensor, "item 3 h w"]) -> Int32[Tensor, "item 3 h w"]:
    """Pillow's SMOOTH: thirteenths of the 3x3 sum with the centre five times; the border is kept."""
    values = images.short()
    rows = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
    total = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :] + 4 * values[..., 1:-1, 1:-1]
    smoothed = images.int()
    # (2 * total + 13) // 26 by a product and a shift, exact up to 26 * 255 + 13 and far quicker.
    smoothed[..., 1:-1, 1:-1] = ((2 * total.int() + 13) * 10083) >> 18
    return smoothed


def _extremes(images: UInt8[Tensor, "item 3 h w"]) -> Int32[Tensor, "item 3 1 1"]:
    """256 times the lowest plus the highest value of each channel."""
    lowest = images.amin(dim=(2, 3), keepdim=True).int()
    return lowest * 256 + images.amax(dim=(2, 3), keepdim=True)


_KEYS = {
    Stage.LUMA: _luma,
    Stage.GREY_MEAN: _grey_mean,
    Stage.SMOOTHED: _smoothed,
    Stage.EXTREMES: _extremes,
}


def _equalize(images: UInt8[Tensor, "item 3 h w"]) -> UInt8[Tensor, "item 3 h w"]:
    """Spreads each channel's histogram, in Pillow's integer arithmetic."""
    # Legend: C = channels of all images, P = pixels, V = the 256 values.
    values_CP = images.reshape(-1, images.shape[2] * images.shape[3]).long()
    num_pixels = values_CP.shape[1]
    ones_CP = torch.ones((), dtype=torch.int32, device=images.device).expand_as(values_CP)
    counts_CV = torch.zeros(len(values_CP), 256, dtype=torch.int32, device=images.device)
    counts_CV.scatter_add_(1, values_CP, ones_CP)
    largest_C1 = values_CP.amax(dim=1, keepdim=True)
    step_C1 = (num_pixels - counts_CV.gather(1, largest_C1)) // 255
    below_CV = counts_CV.cumsum(dim=1, dtype=torch.int32) - counts_CV
    spread_CV = ((step_C1 // 2 + below_CV) // step_C1.clamp(min=1)).clamp(max=255)
    unchanged_V = torch.arange(256, dtype=torch.int32, device=images.device)
    # A single value has step 0 too.
    table_CV = torch.where(step_C1 > 0, spread_CV, unchanged_V).to(torch.uint8)
    return table_CV.gather(1, values_CP).view_as(images)


def _erase(images: UInt8[Tensor, "item 3 h w"], draw: AugmentationDraw) -> UInt8[Tensor, "item 3 h w"]:
    """Blackens each image's box."""
    in_rows = _is_within(draw.top, draw.height, images.shape[2])
    in_columns = _is_within(draw.left, draw.width, images.shape[3])
    # Products of bytes take half the time of logic on booleans.
    return images * (1 - in_rows[:, None, :, None] * in_columns[:, None, None, :])


def _is_within(
    first: Int[Tensor, " item"], num: Int[Tensor, " item"], length: int
) -> UInt8[Tensor, "item length"]:
    """1 at those of `length` places that are among the `num` from `first` on."""
    place = torch.arange(length, device=first.device)
    return ((place >= first[:, None]) & (place < (first + num)[:, None])).to(torch.uint8)
