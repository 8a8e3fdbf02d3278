from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from trainables.augment import Augment, draw_augmentations
from trainables.batches import Batch, Batches
from trainables.config import HeadConfig, TrialConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.heads import HEADS
from trainables.images import Subset
from trainables.randomness import generator

NUM_ITEMS, BATCH_SIZE = 21, 8
SIZES = [8, 8, 5]

Epoch = list[Batch]


@pytest.fixture(scope="module")
def data() -> Subset:
    """Images whose labels are their rows."""
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (NUM_ITEMS, 3, 32, 32), generator=source, dtype=torch.uint8)
    return Subset(images, torch.arange(NUM_ITEMS))


def colour_trial(**changes: Any) -> TrialConfig:
    settings = {"dataset": "cifar10", "encoder": "resnet8", "encoder_weights": "none"}
    return TrialConfig.model_validate(settings | {"batch_size": BATCH_SIZE} | changes)


def epochs_of(
    config: TrialConfig,
    data: Subset,
    num: int = 1,
    phase: Literal["warm-up", "main"] = "main",
    group: WorkerGroup = SINGLE,
) -> list[Epoch]:
    batches = Batches(config, data, phase, group)
    return [list(batches.epoch()) for _ in range(num)]


def labels_of(epoch: Epoch) -> list[int]:
    return torch.cat([batch.labels for batch in epoch]).tolist()


def items_of(epoch: Epoch) -> Tensor:
    return torch.cat([images_of(batch) for batch in epoch])


def images_of(batch: Batch) -> Tensor:
    assert isinstance(batch.items, Tensor)
    return batch.items


def share_of_changed(first: Tensor, second: Tensor) -> float:
    return float((first != second).flatten(1).any(dim=1).double().mean())


def test_every_item_comes_once_an_epoch_in_a_new_order(data: Subset) -> None:
    orders = [labels_of(epoch) for epoch in epochs_of(colour_trial(), data, num=3)]
    assert all(sorted(order) == list(range(NUM_ITEMS)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_last_incomplete_batch_is_kept(data: Subset) -> None:
    (epoch,) = epochs_of(colour_trial(), data)
    assert [len(batch.items) for batch in epoch] == [batch.size for batch in epoch] == SIZES


def test_an_epoch_of_cifar_has_176_steps() -> None:
    config = TrialConfig(augmentation="none")
    cifar = Subset(
        torch.zeros(45_000, 3, 1, 1, dtype=torch.uint8), torch.zeros(45_000, dtype=torch.long)
    )
    batches = Batches(config, cifar, "main", SINGLE)
    assert sum(1 for _ in batches.epoch()) == 176
    assert batches.num_views == 45_000


def test_batch_larger_than_the_data_holds_it_once(data: Subset) -> None:
    (epoch,) = epochs_of(colour_trial(batch_size=100), data)
    assert [batch.size for batch in epoch] == [NUM_ITEMS]


def test_order_and_augmentation_are_drawn_from_their_streams(data: Subset) -> None:
    order, augmentation = generator(42, "order"), generator(42, "augmentation")
    augment = Augment((32, 32))
    for epoch in epochs_of(colour_trial(), data, num=2):
        rows = torch.randperm(NUM_ITEMS, generator=order)
        draw = draw_augmentations(NUM_ITEMS, (32, 32), augmentation)
        assert labels_of(epoch) == rows.tolist()
        assert torch.equal(items_of(epoch), augment(data.items[rows], draw))


def test_every_head_sees_the_same_items(data: Subset) -> None:
    first, *others = [epochs_of(colour_trial(head=HeadConfig(kind=k)), data)[0] for k in HEADS]
    for other in others:
        assert labels_of(other) == labels_of(first)
        assert torch.equal(items_of(other), items_of(first))


def test_order_does_not_depend_on_augmentation(data: Subset) -> None:
    augmented, plain = (
        epochs_of(colour_trial(augmentation=name), data, num=2)
        for name in ("trivial_augment_wide", "none")
    )
    assert [labels_of(epoch) for epoch in augmented] == [labels_of(epoch) for epoch in plain]


def test_items_without_augmentation_are_the_datas_own(data: Subset) -> None:
    (epoch,) = epochs_of(colour_trial(augmentation="none"), data)
    assert torch.equal(items_of(epoch), data.items[labels_of(epoch)])


def test_augmentation_changes_most_items_anew_each_epoch(data: Subset) -> None:
    first, second = epochs_of(colour_trial(), data, num=2)
    by_row = [items_of(epoch)[torch.tensor(labels_of(epoch)).argsort()] for epoch in (first, second)]
    # 1 of 14 operations is the identity, and some magnitudes are.
    assert share_of_changed(by_row[0], data.items) > 0.6
    assert share_of_changed(by_row[0], by_row[1]) > 0.6
    assert by_row[0].dtype == torch.uint8


def test_augmenting_leaves_the_data_alone(data: Subset) -> None:
    before = data.items.clone()
    epochs_of(colour_trial(), data)
    assert torch.equal(data.items, before)


def test_phases_draw_from_streams_of_their_own(data: Subset) -> None:
    warmup, main = (epochs_of(colour_trial(), data, phase=phase)[0] for phase in ("warm-up", "main"))
    assert labels_of(warmup) != labels_of(main)
    by_row = [items_of(epoch)[torch.tensor(labels_of(epoch)).argsort()] for epoch in (warmup, main)]
    assert share_of_changed(by_row[0], by_row[1]) > 0.6


def test_batches_depend_on_the_trials_seed_only(data: Subset) -> None:
    torch.manual_seed(0)
    (first,) = epochs_of(colour_trial(seed=1), data)
    (again,) = epochs_of(colour_trial(seed=1), data)
    (other,) = epochs_of(colour_trial(seed=2), data)
    assert labels_of(first) == labels_of(again) != labels_of(other)
    assert torch.equal(items_of(first), items_of(again))


def test_every_item_of_a_batch_comes_in_as_many_views(data: Subset) -> None:
    (single,) = epochs_of(colour_trial(), data)
    (double,) = epochs_of(colour_trial(num_views=2), data)
    assert [batch.size for batch in double] == [2 * size for size in SIZES]
    for one, two in zip(single, double, strict=True):
        assert two.labels.tolist() == one.labels.tolist() * 2
    assert Batches(colour_trial(num_views=2), data, "main", SINGLE).num_views == 2 * NUM_ITEMS


def test_views_without_augmentation_are_the_item_itself(data: Subset) -> None:
    (epoch,) = epochs_of(colour_trial(num_views=2, augmentation="none"), data)
    assert torch.equal(items_of(epoch), data.items[labels_of(epoch)])


def test_views_of_an_item_are_augmented_differently(data: Subset) -> None:
    (epoch,) = epochs_of(colour_trial(num_views=2), data)
    halves = [images_of(batch).chunk(2) for batch in epoch]
    first, second = (torch.cat(views) for views in zip(*halves, strict=True))
    assert share_of_changed(first, second) > 0.6


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_a_group_are_the_single_workers_batches(
    data: Subset, size: int, num_views: int
) -> None:
    config = colour_trial(num_views=num_views)
    expected = epochs_of(config, data, num=2)
    shares = [epochs_of(config, data, num=2, group=WorkerGroup(rank, size)) for rank in range(size)]
    for number, epoch in enumerate(expected):
        for step, batch in enumerate(epoch):
            parts = [share[number][step] for share in shares]
            assert torch.equal(items_of(parts), images_of(batch))
            assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
            assert {part.size for part in parts} == {batch.size}


def test_worker_without_an_item_still_has_its_batch(data: Subset) -> None:
    # 17 items in batches of 8: the last one has 1, so the third of 3 workers has none.
    epochs = epochs_of(colour_trial(), data.rows(0, 17), group=WorkerGroup(2, 3))
    last = epochs[0][-1]
    assert images_of(last).shape == (0, 3, 32, 32) and last.labels.shape == (0,) and last.size == 1
    assert images_of(last).dtype == torch.uint8


def test_batches_go_on_from_their_state(data: Subset) -> None:
    config = colour_trial(num_views=2)
    before = Batches(config, data, "main", SINGLE)
    list(before.epoch())
    after = Batches(config, data, "main", SINGLE)
    after.load_state_dict(before.state_dict())
    expected, got = list(before.epoch()), list(after.epoch())
    assert labels_of(got) == labels_of(expected)
    assert torch.equal(items_of(got), items_of(expected))
    fresh = list(Batches(config, data, "main", SINGLE).epoch())
    assert labels_of(fresh) != labels_of(expected)
