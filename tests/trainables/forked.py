"""Processes of tests that train: forked from one that has imported what they need, once."""

from __future__ import annotations

from torch import multiprocessing

multiprocessing.set_forkserver_preload(["trainables.training", "torch._dynamo"])
CONTEXT = multiprocessing.get_context("forkserver")
