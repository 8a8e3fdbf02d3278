"""The batches of a training phase: order, views and augmentation, each from a stream of its own.

Called by `trainables.training`. Everything random in an epoch is drawn on the CPU at its start, so the
draws depend neither on the device nor on the number of workers, and no step waits for the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from trainables.augment import Augment, draw_augmentations
from trainables.checkpoint import PhaseName
from trainables.config import TrialConfig
from trainables.data import Items, Part
from trainables.distributed import WorkerGroup
from trainables.images import Subset
from trainables.randomness import generator
from trainables.sentences import SentencePairs

_LOOK_AT = 16


class Batch(NamedTuple):
    """This worker's share of a global batch.

    Attributes:
        items: views, as the model takes them: images, or sentences.
        labels: their labels.
        size: number of views in the global batch.
    """

    items: Items
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

    def __init__(self, config: TrialConfig, data: Part, phase: PhaseName, group: WorkerGroup) -> None:
        self._config = config
        self._data = data
        self._group = group
        prefix = "" if phase == "main" else f"{phase} "
        self._order = generator(config.seed, f"{prefix}order")
        self._augmentation = generator(config.seed, f"{prefix}augmentation")
        self._num_views = data.num_views(config.num_views)
        self._augment = None
        if config.augmentation == "trivial_augment_wide":
            self._augment = Augment(_image_size(data.items)).to(data.items.device)

    @property
    def device(self) -> torch.device:
        """Where the items are."""
        return self._data.items.device

    @property
    def num_views(self) -> int:
        """Views in one epoch, over all workers."""
        return len(self._data) * self._num_views

    def state_dict(self) -> dict[str, UInt8[Tensor, " byte"]]:
        """Where both streams are, between two epochs."""
        return {"order": self._order.get_state(), "augmentation": self._augmentation.get_state()}

    def load_state_dict(self, state_dict: dict[str, UInt8[Tensor, " byte"]]) -> None:
        """Inverts `state_dict`."""
        self._order.set_state(state_dict["order"])
        self._augmentation.set_state(state_dict["augmentation"])

    def epoch(self) -> Iterator[Batch]:
        """One pass over the data in a new order; the last batch may be smaller."""
        data, device = self._data, self._data.items.device
        order = torch.randperm(len(data), generator=self._order)
        draw = None
        if self._augment:
            size = _image_size(data.items)
            draw = draw_augmentations(self.num_views, size, self._augmentation).to(device)
        if isinstance(data, Subset):
            order = order.to(device)
        start = 0
        for rows in self._batches(order):
            views, labels = data.views(rows, self._config.num_views)
            places = torch.arange(start, start + len(views), device=device)
            start += len(views)
            items: Items = data.items[self._group.share(views)]
            if self._augment and draw is not None:
                assert isinstance(items, Tensor)
                items = self._augment(items, draw.rows(self._group.share(places)))
            yield Batch(items, self._group.share(labels).to(device), len(views))

    def _batches(self, order: Int[Tensor, " row"]) -> Sequence[Int[Tensor, " row"]]:
        """The rows of each batch."""
        data = self._data
        if isinstance(data, SentencePairs) and self._config.data.distinct_sentences:
            return distinct_batches(order, data.first, data.second, self._config.batch_size)
        return order.split(self._config.batch_size)


def distinct_batches(
    order: Int[Tensor, " pair"],
    first: Int[Tensor, " pair"],
    second: Int[Tensor, " pair"],
    batch_size: int,
) -> list[Int[Tensor, " pair"]]:
    """Batches in which no sentence belongs to two pairs.

    A pair with a sentence that its batch has already waits for the next one that has not, before those
    that come later in the order. So batches may be smaller than asked for, above all the last ones: a
    sentence that many pairs share is in as many batches. A batch looks no further than at `_LOOK_AT`
    times as many pairs as it takes, so that an epoch's batches are made in linear time.

    Args:
        order: the pairs, in the order of the epoch.
        first: the row of each pair's one sentence.
        second: that of the other one.
        batch_size: pairs of a batch.
    """
    left = deque(order.tolist())
    sentences = [*zip(first.tolist(), second.tolist(), strict=True)]
    batches: list[Int[Tensor, " pair"]] = []
    while left:
        batch: list[int] = []
        waiting: list[int] = []
        taken: set[int] = set()
        for _ in range(min(len(left), _LOOK_AT * batch_size)):
            if len(batch) == batch_size:
                break
            pair = left.popleft()
            if taken.isdisjoint(sentences[pair]):
                batch.append(pair)
                taken.update(sentences[pair])
            else:
                waiting.append(pair)
        left.extendleft(reversed(waiting))
        batches.append(torch.tensor(batch))
    return batches


def _image_size(items: Items) -> tuple[int, int]:
    assert isinstance(items, Tensor)
    height, width = items.shape[-2:]
    return height, width
