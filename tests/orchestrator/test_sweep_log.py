from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.sweep_log import LOGGERS, log_to


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (handlers, propagates, level) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagates
        logger.setLevel(level)


def test_our_own_log_and_warnings_of_libraries_are_in_the_file(tmp_path: Path) -> None:
    log_to(tmp_path / "sweep.log")
    logging.getLogger("orchestrator.driver").info("a trial ended")
    logging.getLogger("mlflow.tracking.of_a_test").warning("it is slow")
    logging.getLogger("mlflow").info("not this")
    lines = (tmp_path / "sweep.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO orchestrator.driver: a trial ended", "WARNING mlflow.tracking.of_a_test: it is slow",
    ]  # fmt: skip


def test_a_log_whose_disk_is_away_goes_on_once_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to(tmp_path / "disk" / "sweep.log")
    logger = logging.getLogger("orchestrator")
    logger.info("left out")
    (tmp_path / "disk").mkdir()
    logger.info("kept")
    assert [line[-4:] for line in (tmp_path / "disk" / "sweep.log").read_text().splitlines()] == ["kept"]
    assert capsys.readouterr() == ("", "")
