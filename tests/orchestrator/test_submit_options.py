from __future__ import annotations

import pytest

from orchestrator.submit_options import parse


def test_a_sweep_is_named_as_for_a_run_here() -> None:
    options = parse(["a.yaml", "--set", "x=1", "--trials", "3", "--import", "b", "--name", "n"])
    assert (str(options.file), options.overrides, options.trials) == ("a.yaml", ["x=1"], 3)
    assert (options.imports, options.name, options.follow) == (["b"], "n", False)
    assert parse(["--resume", "a", "--time-budget", "1h"]).time_budget == "1h"
    assert parse(["--status", "a", "--follow"]).follow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a search space, such as search_spaces/digits.yaml, or a sweep to --resume, --status"),
        (["a.yaml", "--status", "b"], "--status takes no other sweep"),
        (["--resume", "a", "--stop", "b"], "--stop takes no other sweep"),
        (["--stop", "b", "--status", "b"], "--status takes no other sweep"),
        (["--stop", "b", "--follow"], "--stop shows the sweep's end by itself"),
        (["--status", "b", "--set", "x=1"], "--status takes no settings of a sweep"),
        (["--status", "b", "--trials", "1"], "--status takes no settings of a sweep"),
        (["--status", "../b"], "a name has up to 100 letters"),
        (["--stop", "b; reboot"], "a name has up to 100 letters"),
        (["--resume", "runs/b"], "--resume: a name has up to 100 letters"),
        (["--resume", "a", "--name", "b"], "--resume names the sweep already"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
