from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.command_line import parse, tell
from orchestrator.errors import UserError


def test_several_sweeps_may_be_imported() -> None:
    assert parse(["a.yaml"]).imports == []
    assert parse(["a.yaml", "--import", "b", "--import", "mlflow:c"]).imports == ["b", "mlflow:c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "a", "--import", "b"], "--resume keeps what the sweep imported when it started"),
        (["--resume", "a", "--name", "b"], "--resume names the sweep already"),
        (["a.yaml", "--or-resume"], "--or-resume needs a search space and a --name"),
        (["--resume", "a", "--or-resume"], "--or-resume needs a search space and a --name"),
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


@pytest.mark.parametrize(("more", "place"), [((), "{file}:2: "), (("--resolved",), "")])
def test_a_place_is_told_in_a_file_that_the_user_has(
    more: tuple[str, ...],
    place: str,
    write_space: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_space("name: s\nstorage: /runs\n")
    error = UserError("storage: /runs is not a folder", location=("storage",))
    assert tell(error, parse([str(file), *more])) == 2
    assert capsys.readouterr().err == f"{place.format(file=file)}storage: /runs is not a folder\n"
