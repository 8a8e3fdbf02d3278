"""What the driver of a sweep costs, as rows: speed, memory, and taking a sweep up again.

`tests.benchmarks.driver_load` is what it is measured under.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.driver_load import (
    LOOP_LIMIT_S,
    NUM_TOLD,
    NUM_TRIALS,
    Ask,
    Cost,
    Load,
    ask,
    in_own_process,
    measure,
    num_reports,
    reports_per_s,
)
from tests.benchmarks.table import Row

NUM_FOR_RATIOS = 2_000
"""Trials of the loads that are held against the first of the whole one."""


def run() -> list[Row]:
    """The whole load, and smaller ones to hold it against."""
    whole = in_own_process(measure, Load(resumes=True))
    held = in_own_process(measure, Load(NUM_FOR_RATIOS, mlflow=False))
    best = in_own_process(measure, Load(NUM_FOR_RATIOS, mlflow=False, evaluated="best"))
    asks = {"tpe": in_own_process(ask, "tpe"), "gp": in_own_process(ask, "gp", 3)}
    return [
        *_rows_of_speed(whole, held, best),
        *rows_of_asks(asks, 1 / reports_per_s(whole.windows)),
        *_rows_of_memory(whole),
        *_rows_of_resume(whole),
    ]


def _rows_of_speed(whole: Cost, held: Cost, best: Cost) -> list[Row]:
    first, last = whole.windows[0], whole.windows[-1]
    rate, held_rate = reports_per_s(whole.windows), reports_per_s(held.windows)
    same = reports_per_s(whole.windows[: len(held.windows)])
    floor_s = sum(w.floor_s for w in held.windows) / len(held.windows)
    cut = "" if last.trials == NUM_TRIALS else f" in {LOOP_LIMIT_S:g} s, then cut off"
    parts = sorted(whole.shares_s.items(), key=lambda part: -part[1])
    shares = [f"{n} {s / whole.shares_s['all']:.0%}" for n, s in parts if n not in ("all", "CPU")]
    return [
        Row(
            "reports a second",
            f"{rate:.0f}",
            f"goal: at least 500; {last.trials:,} trials{cut}, MLflow at work",
        ),
        Row(
            "the first and the last window",
            f"{reports_per_s([first]):.0f} / {reports_per_s([last]):.0f}",
            f"goal: flat; of {len(whole.windows)} windows; front {whole.front}",
        ),
        Row(
            "CPU a report, first and last",
            f"{1e3 * first.cpu_s / first.reports:.2f} / {1e3 * last.cpu_s / last.reports:.2f} ms",
            "of the driver's thread, a tenth of a start and an end included",
        ),
        Row("longest call", f"{1e3 * max(w.slowest_s for w in whole.windows):.0f} ms", ""),
        Row("MLflow held still", f"{held_rate:.0f} a second", f"{NUM_FOR_RATIOS:,} trials"),
        Row("ratio to that", f"{same / held_rate:.2f}x", "what is left beside MLflow"),
        Row(
            "floor, a line and its fsync",
            f"{1e3 * floor_s:.2f} ms",
            f"{held.line_bytes:,} bytes; MLflow held still",
        ),
        Row("gap to the floor", f"{1 / held_rate / floor_s:.1f}x", "MLflow held still"),
        Row("shares", "", ", ".join(shares)),
        Row(
            "with evaluation.points: best",
            f"{reports_per_s(best.windows) / held_rate:.2f}x",
            "of the speed without, both with MLflow held still",
        ),
    ]


def rows_of_asks(asks: Mapping[str, Ask], report_s: float) -> list[Row]:
    """Of each sampler, what a proposal keeps the driver's loop from."""
    return [
        Row(
            f"a proposal of {sampler} at {NUM_TOLD:,} told",
            f"blocks {1e3 * cost.blocked_s:.2f} ms",
            f"goal: the time of a report, here {1e3 * report_s:.2f} ms; the longest call "
            f"{1e3 * cost.longest_s:.2f} ms; there after {1e3 * cost.took_s:,.0f} ms",
        )
        for sampler, cost in asks.items()
    ]


def _rows_of_memory(whole: Cost) -> list[Row]:
    last = whole.windows[-1]
    grown_mib = last.rss_mib - whole.start_mib
    drain_min = last.waiting / whole.drained_per_s / 60
    return [
        Row("memory, open and peak", f"{whole.start_mib:,.0f} / {whole.peak_mib:,.0f} MiB", ""),
        Row(
            "growth every 10,000 reports",
            f"{10_000 * grown_mib / num_reports(whole.windows):.0f} MiB",
            "in the record, and most of them in the queue too",
        ),
        Row("MLflow's queue at the end", f"{last.waiting:,}", "of 13 operations a trial"),
        Row(
            "MLflow drains",
            f"{whole.drained_per_s:.0f} a second",
            f"undisturbed, so it takes {drain_min:.0f} min more",
        ),
    ]


def _rows_of_resume(whole: Cost) -> list[Row]:
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in whole.resume_s.items())
    took = whole.resume_s["ledger"] + whole.resume_s["driver"]
    return [Row("resume", f"{took:.1f} s", f"reading and opening; alone: {parts}")]
