from __future__ import annotations

import pytest

from orchestrator.command_line import parse


def test_several_sweeps_may_be_imported() -> None:
    assert parse(["a.yaml"]).imports == []
    assert parse(["a.yaml", "--import", "b", "--import", "mlflow:c"]).imports == ["b", "mlflow:c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "a", "--import", "b"], "--resume keeps what the sweep imported when it started"),
        (["--resume", "a", "--name", "b"], "--resume names the sweep already"),
        ([], "name a search space, such as search_spaces/digits.yaml, or a sweep to --resume"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
