"""Our training as `trainables.bench` runs it: the functions of a trial, executed one way."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from trainables.batches import Batches
from trainables.config import TrialConfig
from trainables.distributed import SINGLE
from trainables.execution import cudnn_choices, place_model
from trainables.images import Subset
from trainables.models import ImageNormalization
from trainables.training import main_optimizer, train_epoch

NUM_FIRST_STEPS = 3
"""So often `steps` runs before the first `epoch`: CUDA graphs run as they are, are recorded, and are
only then replayed."""


def prepared(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's items as the encoder takes them, with their labels."""
    normalize = ImageNormalization()
    for batch in batches.epoch():
        assert isinstance(batch.items, Tensor)
        yield normalize.to(batch.items.device)(batch.items.float() / 255), batch.labels


class Ours:
    """Our training as it is, executed one way, on the first items of a dataset."""

    def __init__(
        self, config: TrialConfig, data: Subset, num_step_rows: int, num_epoch_rows: int
    ) -> None:
        self.label = config.precision + (" compiled" if config.compile else "")
        self.config = config
        self.placed = place_model(config, data.labels.device)
        self._optimizer = main_optimizer(config, self.placed.model)
        self._items = data.items[: config.batch_size]
        bare = config.model_copy(update={"augmentation": "none"})
        self.bare_batches = Batches(bare, data.rows(0, num_step_rows), "main", SINGLE)
        self.batches = Batches(config, data.rows(0, num_epoch_rows), "main", SINGLE)
        self._first_s = 0.0
        if config.compile:
            self._first_s = sum(train() for train in (*[self.steps] * NUM_FIRST_STEPS, self.epoch))

    def compilation_s(self, steps_s: float, epoch_s: float) -> float:
        """Seconds that the first calls, which compile and record, took beyond as many later ones.

        Args:
            steps_s: seconds of `steps` once all is compiled.
            epoch_s: the same of `epoch`.
        """
        return max(self._first_s - NUM_FIRST_STEPS * steps_s - epoch_s, 0.0)

    def steps(self) -> float:
        """Seconds of some steps without augmentation."""
        return self._train(self.bare_batches)

    def epoch(self) -> float:
        return self._train(self.batches)

    def _train(self, batches: Batches) -> float:
        with cudnn_choices(self.config):
            return train_epoch(self.config, self.placed, self._optimizer, batches, SINGLE).time_s

    def forward(self) -> None:
        self.placed.model.train()
        with cudnn_choices(self.config):
            self.placed.model(self._items)
