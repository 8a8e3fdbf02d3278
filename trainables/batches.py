"""The batches of a training phase: order, views and augmentation, each from a stream of its own.

Called by `trainables.training`. Everything random in an epoch is drawn on the CPU at its start, so the
draws depend neither on the device nor on the number of workers, and no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int, Num, UInt8
from torch import Tensor

from trainables.augment import Augment, draw_augmentations
from trainables.checkpoint import PhaseName
from trainables.config import TrialConfig
from trainables.distributed import WorkerGroup
from trainables.images import Subset
from trainables.randomness import generator


class Batch(NamedTuple):
    """This worker's share of a global batch.

    Attributes:
        items: views, as the model takes them.
        labels: their labels.
        size: number of views in the global batch.
    """

    items: Num[Tensor, "view channel h w"]
    labels: Int[Tensor, " view"]
    size: int


class Batches:
    """The batches of one phase, epoch after epoch.

    Args:
        config: the training.
        data: what it is trained on.
        phase: phases draw from streams of their own.
        group: the workers that share each batch.
    """

    def __init__(self, config: TrialConfig, data: Subset, phase: PhaseName, group: WorkerGroup) -> None:
        self._config = config
        self._data = data
        self._group = group
        prefix = "" if phase == "main" else f"{phase} "
        self._order = generator(config.seed, f"{prefix}order")
        self._augmentation = generator(config.seed, f"{prefix}augmentation")
        self._augment = None
        if config.augmentation == "trivial_augment_wide":
            self._augment = Augment(_image_size(data)).to(data.items.device)

    @property
    def num_views(self) -> int:
        """Views in one epoch, over all workers."""
        return len(self._data) * self._config.num_views

    def state_dict(self) -> dict[str, UInt8[Tensor, " byte"]]:
        """Where both streams are, between two epochs."""
        return {"order": self._order.get_state(), "augmentation": self._augmentation.get_state()}

    def load_state_dict(self, state_dict: dict[str, UInt8[Tensor, " byte"]]) -> None:
        """Inverts `state_dict`."""
        self._order.set_state(state_dict["order"])
        self._augmentation.set_state(state_dict["augmentation"])

    def epoch(self) -> Iterator[Batch]:
        """One pass over the data in a new order; the last batch may be smaller."""
        data, num_views = self._data, self._config.num_views
        device = data.labels.device
        order = torch.randperm(len(data), generator=self._order).to(device)
        positions = torch.arange(self.num_views, device=device)
        draw = None
        if self._augment:
            draw = draw_augmentations(self.num_views, _image_size(data), self._augmentation).to(device)
        for rows, places in zip(
            order.split(self._config.batch_size),
            positions.split(self._config.batch_size * num_views),
            strict=True,
        ):
            own = self._group.share(rows.repeat(num_views))
            items = data.items[own]
            if self._augment and draw is not None:
                items = self._augment(items, draw.rows(self._group.share(places)))
            yield Batch(items, data.labels[own], len(places))


def _image_size(data: Subset) -> tuple[int, int]:
    height, width = data.items.shape[-2:]
    return height, width
