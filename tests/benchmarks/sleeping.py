"""python -m tests.benchmarks.sleeping EPOCH_S ...: `orchestrator.sweep` whose trainings only sleep.

All else is real: Ray and its processes, Tune, the driver, MLflow. What is left of the time that slots
have is what the orchestration takes.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from orchestrator.sweep import main
from trainables import ray_train
from trainables.ray_train import CONFIG_KEY, KNOWN_EPOCH_KEY, NAME_KEY, REPORT_KEY, TrialResources
from trainables.reports import METRICS, TRAINING_METRICS, EpochReport


def sleeping_trainable(epoch_s: float) -> Callable[..., Callable[[dict[str, Any]], None]]:
    """Takes the place of `trainables.ray_train.make_trainable`."""

    def make(resources: TrialResources, *_: object) -> Callable[[dict[str, Any]], None]:
        from ray import tune

        def sleep(config: dict[str, Any]) -> None:
            draw = random.Random(config[NAME_KEY])
            for epoch in range(config.get(KNOWN_EPOCH_KEY, 0) + 1, config[CONFIG_KEY]["epochs"] + 1):
                time.sleep(epoch_s)
                metrics = {name: draw.random() for name in METRICS}
                training = {name: draw.random() for name in TRAINING_METRICS} | {"epoch_time_s": epoch_s}
                report = EpochReport(epoch, {**metrics, "validation_time_s": 0.0}, {epoch: training})
                tune.report({REPORT_KEY: json.dumps(report.to_dict())})

        return tune.with_resources(sleep, {"cpu": resources.cpus})

    return make


if __name__ == "__main__":
    ray_train.make_trainable = sleeping_trainable(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
