import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import stats
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import RandomErasing, TrivialAugmentWide, autoaugment
from torchvision.transforms import functional as vision
from torchvision.transforms.autoaugment import _apply_op

from trainables.augment import Augment, AugmentationDraw, draw_augmentations
from trainables.augment_tables import IS_SIGNED, NUM_MAGNITUDES, OPERATIONS, build_tables

SQUARE, OBLONG = (32, 32), (24, 40)
NO_FLUKE = 1e-4
SEEDS = st.integers(0, 2**31)
SPACE = TrivialAugmentWide()._augmentation_space(NUM_MAGNITUDES)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@functools.cache
def pictures(size: tuple[int, int]) -> Tensor:
    """Images that are easy to get wrong, and some that look like photographs."""
    g = source(7)
    h, w = size
    ramp = torch.arange(h * w).view(h, w)

    def noise(low: int = 0, high: int = 256) -> Tensor:
        return torch.randint(low, high, (3, h, w), generator=g)

    def blobs(cells: int) -> Tensor:
        coarse = 256 * torch.rand(1, 3, cells, cells, generator=g)
        return functional.interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 255)

    def but_for(share: float, most: int, rest: Tensor) -> Tensor:
        return torch.where(torch.rand(3, h, w, generator=g) < share, rest, most)

    images = [
        noise(),
        noise(),
        noise(40, 90),
        torch.stack([ramp % 256, ramp * 255 // (h * w), (ramp % w) * 6]),
        torch.stack([ramp // w * 3, 255 - ramp % 256, ramp % 7]),
        *(torch.full((3, h, w), value) for value in (0, 77, 255)),
        torch.tensor([3, 128, 250])[:, None, None].expand(3, h, w),
        but_for(0.5, 0, torch.tensor(255)),
        but_for(0.1, 12, torch.tensor(13)),
        but_for(0.001, 200, noise()),
        # Fewer than 255 pixels below the largest value: equalising has step 0.
        but_for(0.1, 251, noise(0, 250)),
        # 255 to 509 of them: step 1, whose table runs past 255.
        but_for(0.4, 254, noise(0, 250)),
        but_for(0.4, 100, noise(101, 105)),
        (256 * torch.rand(3, h, w, generator=g) ** 8).floor(),
        *(blobs(cells) for cells in (2, 3, 5, 9)),
    ]
    return torch.stack([image.to(torch.uint8) for image in images])


def to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def torchvisions(image: Image.Image, name: str, step: int, is_negative: bool) -> Image.Image:
    magnitudes, _ = SPACE[name]
    magnitude = float(magnitudes[step]) if magnitudes.ndim else 0.0
    magnitude = -magnitude if is_negative else magnitude
    return _apply_op(image, name, magnitude, vision.InterpolationMode.NEAREST, None)  # type: ignore[arg-type]


def combinations(name: str) -> list[tuple[int, bool]]:
    magnitudes, is_signed = SPACE[name]
    steps = range(NUM_MAGNITUDES) if magnitudes.ndim else range(1)
    return [(step, sign) for step in steps for sign in ((False, True) if is_signed else (False,))]


def draw_of(name: str, steps_and_signs: list[tuple[int, bool]]) -> AugmentationDraw:
    """One operation at each of some strengths; nothing erased."""
    magnitude = torch.tensor([step for step, _ in steps_and_signs])
    is_negative = torch.tensor([sign for _, sign in steps_and_signs])
    zero = torch.zeros_like(magnitude)
    return AugmentationDraw(
        zero + OPERATIONS.index(name), magnitude, is_negative, zero, zero, zero, zero
    )


def random_batch(num: int, seed: int, size: tuple[int, int] = SQUARE) -> tuple[Tensor, AugmentationDraw]:
    choice = torch.randint(len(pictures(size)), (num,), generator=source(seed))
    return pictures(size)[choice], draw_augmentations(num, size, source(seed + 1))


def differing(name: str, size: tuple[int, int], steps_and_signs: list[tuple[int, bool]]) -> list[object]:
    """The strengths at which one way or the other departs from torchvision."""
    images, augment = pictures(size), Augment(size)
    pillows = [to_pillow(image) for image in images]
    departures = []
    for step, sign in steps_and_signs:
        expected = torch.stack([to_tensor(torchvisions(image, name, step, sign)) for image in pillows])
        draw = draw_of(name, [(step, sign)] * len(images))
        for is_dense in (False, True):
            if not torch.equal(augment(images, draw, is_dense), expected):
                departures.append((step, sign, is_dense))
    return departures


def test_operations_are_in_torchvisions_order() -> None:
    assert tuple(SPACE) == OPERATIONS
    assert tuple(is_signed for _, is_signed in SPACE.values()) == IS_SIGNED


def test_there_are_623_combinations() -> None:
    assert sum(len(combinations(name)) for name in OPERATIONS) == 623


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_strength_of_an_operation_gives_torchvisions_bytes(name: str) -> None:
    assert len(pictures(SQUARE)) >= 16
    assert differing(name, SQUARE, combinations(name)) == []


@pytest.mark.parametrize("size", [OBLONG, (8, 8), (64, 64), (300, 300)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_other_sizes_get_torchvisions_bytes(name: str, size: tuple[int, int]) -> None:
    wanted = (0, 7, 20, 30) if size[0] < 100 else (20,)
    some = [(step, sign) for step, sign in combinations(name) if step in wanted]
    assert differing(name, size, some) == []


@pytest.mark.parametrize("sign", [False, True])
def test_quarter_turns_give_torchvisions_bytes(sign: bool) -> None:
    [step] = (SPACE["Rotate"][0].abs() == 90).nonzero().flatten().tolist()
    for size in (SQUARE, OBLONG):
        assert differing("Rotate", size, [(step, sign)]) == []


def test_autocontrast_agrees_with_pillow_on_every_pair_of_extremes() -> None:
    tables = build_tables(SQUARE)
    start = int(Augment(SQUARE).settings[OPERATIONS.index("AutoContrast") * NUM_MAGNITUDES * 2, 2])
    table = tables.values[start : start + 256**3].view(256, 256, 256).numpy()
    values = np.arange(256, dtype=np.uint8)[None]
    wrong = [
        (low, high)
        for low in range(256)
        for high in range(low, 256)
        if not np.array_equal(
            np.asarray(ImageOps.autocontrast(Image.fromarray(values[:, low : high + 1])))[0],
            table[low, high, low : high + 1],
        )
    ]
    assert wrong == []


def test_a_mixed_batch_equals_torchvisions_pipeline_up_to_normalisation() -> None:
    images, draw = random_batch(192, seed=3)
    augmented = Augment(SQUARE)(images, draw).float().div(255)
    for image, result, *row in zip(
        images, augmented, *(column.tolist() for column in draw), strict=True
    ):
        operation, step, sign, top, left, height, width = row
        pillow = torchvisions(to_pillow(image), OPERATIONS[operation], step, sign)
        expected = vision.erase(vision.to_tensor(pillow), top, left, height, width, torch.zeros(1, 1, 1))
        assert torch.equal(result, expected)


@pytest.mark.parametrize("size", [SQUARE, OBLONG])
def test_both_ways_give_the_same_bytes(size: tuple[int, int]) -> None:
    images, draw = random_batch(600, seed=11, size=size)
    augment = Augment(size)
    assert torch.equal(augment(images, draw, is_dense=True), augment(images, draw, is_dense=False))


@pytest.mark.parametrize("is_dense", [False, True])
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, num=st.integers(0, 40))
def test_an_item_gets_the_same_bytes_wherever_it_stands(is_dense: bool, seed: int, num: int) -> None:
    images, draw = random_batch(40, seed)
    rows = torch.randperm(40, generator=source(seed))[:num]
    augment = Augment(SQUARE)
    of_rows = augment(images[rows], draw.rows(rows), is_dense)
    assert torch.equal(of_rows, augment(images, draw, is_dense)[rows])


def test_the_input_is_left_as_it_was() -> None:
    images, draw = random_batch(64, seed=5)
    before = images.clone()
    for is_dense in (False, True):
        Augment(SQUARE)(images, draw, is_dense)
        assert torch.equal(images, before)


def test_identity_changes_nothing() -> None:
    images = pictures(SQUARE)
    draw = draw_of("Identity", [(step % NUM_MAGNITUDES, False) for step in range(len(images))])
    for is_dense in (False, True):
        assert torch.equal(Augment(SQUARE)(images, draw, is_dense), images)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_the_box_is_black_and_nothing_else_changes(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(0, length - 1)) for length in OBLONG)
    top = data.draw(st.integers(0, OBLONG[0] - height))
    left = data.draw(st.integers(0, OBLONG[1] - width))
    image = torch.randint(1, 256, (1, 3, *OBLONG), dtype=torch.uint8, generator=source(0))
    draw = draw_of("Identity", [(0, False)])
    draw = draw._replace(
        **{
            name: torch.tensor([value])
            for name, value in {"top": top, "left": left, "height": height, "width": width}.items()
        }
    )
    expected = image.clone()
    expected[:, :, top : top + height, left : left + width] = 0
    for is_dense in (False, True):
        assert torch.equal(Augment(OBLONG)(image, draw, is_dense), expected)


def test_the_dense_way_compiles_without_a_graph_break() -> None:
    images, draw = random_batch(48, seed=13)
    augment = Augment(SQUARE)
    torch.compiler.reset()
    compiled = torch.compile(augment, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, draw, is_dense=True), augment(images, draw, is_dense=False))


def test_off_the_cpu_no_shape_depends_on_the_data() -> None:
    # The meta device has no data to read: an operation that asks the host for some fails on it.
    images, draw = random_batch(8, seed=1)
    augmented = Augment(SQUARE).to("meta")(images.to("meta"), draw.to("meta"))
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.uint8


def test_images_of_another_size_are_refused() -> None:
    images, draw = random_batch(4, seed=1)
    with pytest.raises(AssertionError, match="batch"):
        Augment(OBLONG)(images, draw)


def test_tables_are_no_part_of_the_saved_state() -> None:
    assert Augment(SQUARE).state_dict() == {}


def equal_draws(one: AugmentationDraw, other: AugmentationDraw) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_draws_repeat_with_their_generator() -> None:
    first, again, another = (draw_augmentations(500, SQUARE, source(seed)) for seed in (4, 4, 5))
    assert equal_draws(first, again)
    assert not equal_draws(first, another)


def test_rows_takes_the_draws_of_those_items() -> None:
    draw = draw_augmentations(50, SQUARE, source(2))
    some = draw.rows(torch.tensor([7, 3, 3]))
    assert all(torch.equal(got, all_of[[7, 3, 3]]) for got, all_of in zip(some, draw, strict=True))


def p_of_uniform(counts: Tensor) -> float:
    return float(stats.chisquare(counts.flatten().numpy()).pvalue)


def p_of_same(one: Tensor, other: Tensor) -> float:
    """Chi-square of two samples of whole numbers; rare ones are counted together."""
    values, category = torch.cat([one, other]).unique(return_inverse=True)
    counts = torch.stack(
        [part.bincount(minlength=len(values)) for part in category.split([len(one), len(other)])]
    )
    is_rare = counts.sum(dim=0) < 40
    counts = torch.cat([counts[:, ~is_rare], counts[:, is_rare].sum(dim=1, keepdim=True)], dim=1)
    counts = counts[:, counts.sum(dim=0) > 0]
    return float(stats.chi2_contingency(counts.numpy(), correction=False).pvalue)  # type: ignore[attr-defined]


def test_operations_with_magnitudes_are_uniform() -> None:
    draw = draw_augmentations(60_000, SQUARE, source(21))
    cell = draw.operation * NUM_MAGNITUDES + draw.magnitude
    assert p_of_uniform(cell.bincount(minlength=len(OPERATIONS) * NUM_MAGNITUDES)) > NO_FLUKE


def test_half_of_the_signed_operations_are_negative_and_none_of_the_others() -> None:
    draw = draw_augmentations(60_000, SQUARE, source(22))
    is_signed = torch.tensor(IS_SIGNED)[draw.operation]
    assert not draw.is_negative[~is_signed].any()
    cell = (draw.operation * NUM_MAGNITUDES + draw.magnitude) * 2 + draw.is_negative
    counts = cell[is_signed].bincount(minlength=len(OPERATIONS) * NUM_MAGNITUDES * 2)
    assert p_of_uniform(counts[counts > 0]) > NO_FLUKE
    assert int((counts > 0).sum()) == sum(IS_SIGNED) * NUM_MAGNITUDES * 2


def test_operations_are_drawn_as_torchvision_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(image: Image.Image, name: str, magnitude: float, **_: object) -> Image.Image:
        seen.append(OPERATIONS.index(name) * 2000 + round(magnitude * 7))
        return image

    monkeypatch.setattr(autoaugment, "_apply_op", record)
    transform, image = TrivialAugmentWide(), Image.new("RGB", SQUARE)
    with torch.random.fork_rng():
        torch.manual_seed(23)
        for _ in range(6000):
            transform(image)
    draw = draw_augmentations(24_000, SQUARE, source(24))
    sizes = torch.stack([sizes.expand(NUM_MAGNITUDES) for sizes, _ in SPACE.values()]).double()
    magnitude = sizes[draw.operation, draw.magnitude] * torch.where(draw.is_negative, -1, 1)
    ours = draw.operation * 2000 + (magnitude * 7).round().long()
    assert p_of_same(torch.tensor(seen), ours) > NO_FLUKE


def test_a_quarter_of_the_items_are_erased_whatever_their_operation() -> None:
    draw = draw_augmentations(60_000, SQUARE, source(25))
    is_erased = draw.height > 0
    assert stats.binomtest(int(is_erased.sum()), len(is_erased), 0.25).pvalue > NO_FLUKE
    assert p_of_same(draw.operation[is_erased], draw.operation[~is_erased]) > NO_FLUKE


@functools.cache
def boxes_of_torchvision(size: tuple[int, int]) -> Tensor:
    """Top, left, height and width; all 0 where no attempt was valid."""
    image, erasing = torch.zeros(3, *size), RandomErasing(scale=(0.02, 0.2), ratio=(0.3, 3.3))
    with torch.random.fork_rng():
        torch.manual_seed(31)
        boxes = torch.tensor(
            [erasing.get_params(image, erasing.scale, erasing.ratio, [0.0])[:4] for _ in range(8000)]  # type: ignore[arg-type]
        )
    boxes[(boxes[:, 2:] == torch.tensor(size)).all(dim=1)] = 0
    return boxes


@functools.cache
def boxes_of_draws(size: tuple[int, int]) -> Tensor:
    draw = draw_augmentations(60_000, size, source(32))
    return torch.stack([draw.top, draw.left, draw.height, draw.width], dim=1)


BOX_TRAITS: dict[str, Callable[[Tensor], Tensor]] = {
    "top": lambda box: box[:, 0],
    "left": lambda box: box[:, 1],
    "height and width": lambda box: box[:, 2] * 1000 + box[:, 3],
    "room below": lambda box: box[:, 0] + box[:, 2],
    "room to the right": lambda box: box[:, 1] + box[:, 3],
}


# In images of 8x64 many attempts are invalid.
@pytest.mark.parametrize("size", [SQUARE, (8, 64)])
@pytest.mark.parametrize("trait", BOX_TRAITS)
def test_boxes_are_drawn_as_torchvision_draws_them(size: tuple[int, int], trait: str) -> None:
    ours = boxes_of_draws(size)
    of, erased = BOX_TRAITS[trait], ours[ours[:, 2] > 0]
    assert p_of_same(of(boxes_of_torchvision(size)), of(erased)) > NO_FLUKE


def test_boxes_keep_to_the_range_of_areas_and_to_both_ends_of_the_ratios() -> None:
    # 1 / 0.3 is a little more than 3.3: an image this large tells height from width.
    side = 100_000
    draw = draw_augmentations(60_000, (side, side), source(26))
    is_erased = draw.height > 0
    height, width = draw.height[is_erased].double(), draw.width[is_erased].double()
    ratio, share = height / width, height * width / side**2
    assert [float(ratio.min()), float(ratio.max())] == pytest.approx([0.3, 3.3], rel=2e-3)
    assert [float(share.min()), float(share.max())] == pytest.approx([0.02, 0.2], rel=2e-3)


def test_an_item_without_a_valid_attempt_among_ten_is_not_erased() -> None:
    # In images of 3x150 every tenth item or so finds no box.
    size = (3, 150)
    share = float((boxes_of_torchvision(size)[:, 2] > 0).double().mean())
    assert 0.1 < share < 0.95
    num_erased = torch.tensor([int((boxes_of_draws(size)[:, 2] > 0).sum())])
    assert float(num_erased) / 60_000 == pytest.approx(0.25 * share, rel=0.05)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, height=st.integers(1, 50), width=st.integers(1, 50))
def test_boxes_lie_within_the_image(seed: int, height: int, width: int) -> None:
    draw = draw_augmentations(100, (height, width), source(seed))
    assert all(int(column.min()) >= 0 for column in draw[3:])
    assert int((draw.top + draw.height).max()) <= height
    assert int((draw.left + draw.width).max()) <= width
