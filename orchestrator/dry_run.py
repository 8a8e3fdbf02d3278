"""--dry-run: the resolved settings, the first proposals and an estimate of the work. Starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.ask_and_tell import Proposal
from orchestrator.errors import UserError
from orchestrator.events import TrialImported
from orchestrator.proposals import Proposals
from orchestrator.search_space import combinations, default_of, to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import to_yaml
from orchestrator.terminal import format_duration
from orchestrator.told import imported_trials
from trainables.config import CROSS_CHECKED, TrialConfig

NUM_SHOWN = 5
_AMOUNTS = CROSS_CHECKED | {"num_views"}
"""What the number of views in an epoch depends on, with all that its values must go with."""


@dataclass(frozen=True)
class Work:
    """An upper bound on a sweep's work: every trial trained to its last epoch.

    Attributes:
        epochs: over all trials, warm-up included.
        steps: optimizer steps; None where it is known only once the data is read, as the next.
        items: views of items that pass forward and backward.
    """

    epochs: int
    steps: int | None
    items: int | None


def estimate(settings: SweepSettings) -> Work:
    """The work if no trial stops early and each draws the longest training there is."""
    names = [name for name in settings.search_space if name in _AMOUNTS]
    configs = [to_trial_config(settings.trial, v) for v in combinations(settings.search_space, names)]
    numbers = [config.num_training_items for config in configs]
    num_views = max(2 if config.task == "similarity" else config.num_views for config in configs)
    epochs_a_trial = max(_extremes(settings, "epochs")) + max(_extremes(settings, "warmup.epochs"))
    epochs = settings.num_trials * int(epochs_a_trial)
    if None in numbers:
        return Work(epochs, None, None)
    num_items = max(number for number in numbers if number)
    steps_an_epoch = -(-num_items // int(min(_extremes(settings, "batch_size"))))
    return Work(epochs, epochs * steps_an_epoch, epochs * num_items * num_views)


def _extremes(settings: SweepSettings, name: str) -> list[float]:
    """The ends of a numeric setting's range, or its one value where it does not vary."""
    parameter = settings.search_space.get(name)
    values = [default_of(settings.trial, name)] if parameter is None else parameter.extremes()
    return [float(value) for value in values if isinstance(value, (int, float))]


def show(settings: SweepSettings, console: Console, imports: Sequence[TrialImported] = ()) -> None:
    """Prints what `orchestrator.sweep` would do."""
    console.print(Text(to_yaml(settings)), soft_wrap=True)
    proposals = Proposals(settings, imported=imported_trials(settings, imports))
    shown = [proposals.ask() for _ in range(min(NUM_SHOWN, settings.num_trials))]
    console.print(f"the first {len(shown)} of {settings.num_trials} trials", style="bold")
    console.print(_as_table(shown))
    work = estimate(settings)
    if confirm := settings.confirm:
        console.print(
            f"confirming trains the front's configurations under {confirm.seeds} further seeds each; "
            f"their number is known after the search, so at most {confirm.seeds * work.epochs:,} epochs",
            highlight=False,
        )
    if work.steps is None or work.items is None:
        text = f"at most {work.epochs:,} epochs; how long they are is known once the data is read"
        console.print(text, highlight=False)
        return
    total = f"at most {work.epochs:,} epochs, {work.steps:,} steps, {work.items:,} items"
    if settings.resources.gpus:
        if share := gpu_share(settings.resources.gpus):
            console.print(share, highlight=False)
        console.print(f"{total}; how long they take on a GPU is not estimated", highlight=False)
        return
    first = to_trial_config(settings.trial, shown[0].values)
    step_s = seconds_per_step(first)
    console.print(
        f"{total}; the first trial takes {step_s * 1000:.3g} ms a step here on one thread, so about "
        f"{format_duration(work.steps * step_s)} of training at most, shared by trials that run at once",
        highlight=False,
    )


def gpu_share(gpus: float) -> str:
    """How much memory a share of this machine's GPU is; empty where nothing is shared, or there is none.

    Raises:
        UserError: too little for anything.
    """
    if gpus >= 1:
        return ""
    import torch

    from trainables.errors import GpuMemoryError
    from trainables.gpu_share import read_gpu_memory, share_sentence

    if not torch.cuda.is_available():
        return ""
    try:
        return share_sentence(gpus, read_gpu_memory())
    except GpuMemoryError as error:
        raise UserError(str(error), location=("resources", "gpus")) from None


def _as_table(shown: list[Proposal]) -> Table:
    names = list(dict.fromkeys(name for proposal in shown for name in proposal.values))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *names):
        table.add_column(name, justify="right")
    for proposal in shown:
        cells = [proposal.values.get(name, "") for name in names]
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        table.add_row(str(proposal.number), *texts)
    return table


def seconds_per_step(config: TrialConfig) -> float:
    """Wall time of one training step of `config` on one thread of this machine, measured."""
    from trainables.training import time_step

    return time_step(config.model_copy(update={"device": "cpu"}))
