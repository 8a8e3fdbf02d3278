from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.process_environment import prepare
from orchestrator.ray_token import find_token, no_token, wrong_token


@pytest.fixture
def home(tmp_path: Path) -> Path:
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("of the home\n")
    (tmp_path / "other").write_text(" of a file\n")
    return tmp_path


def test_the_variable_goes_before_the_file_it_names_before_the_home(home: Path) -> None:
    named = {"RAY_AUTH_TOKEN_PATH": str(home / "other")}
    assert find_token({"RAY_AUTH_TOKEN": "given", **named}, home) == ("given", "RAY_AUTH_TOKEN")
    assert find_token(named, home) == ("of a file", f"RAY_AUTH_TOKEN_PATH, {home / 'other'}")
    assert find_token({}, home) == ("of the home", str(home / ".ray" / "auth_token"))


def test_none_is_used_where_there_is_none_or_it_is_switched_off(home: Path, tmp_path: Path) -> None:
    assert find_token({}, tmp_path / "elsewhere") is None
    assert find_token({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "given"}, home) is None


def test_a_named_file_without_a_token_is_refused(home: Path) -> None:
    (home / "empty").touch()
    for name in ("absent", "empty", ".ray"):
        with pytest.raises(UserError, match=rf"RAY_AUTH_TOKEN_PATH: .*{name} holds no token"):
            find_token({"RAY_AUTH_TOKEN_PATH": str(home / name)}, home)


def test_no_message_holds_the_token(home: Path) -> None:
    token = find_token({"RAY_AUTH_TOKEN": "s3cret"}, home)
    assert token is not None
    text = str(wrong_token("--address a", token)) + str(no_token("--address a", {}))
    assert "--address a: the cluster refuses the token of RAY_AUTH_TOKEN" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("given", "address", "mode"),
    [
        ({"RAY_AUTH_TOKEN": "a"}, "auto", "token"),
        ({"RAY_AUTH_TOKEN": "a", "RAY_AUTH_MODE": "disabled"}, "auto", "disabled"),
        ({"RAY_AUTH_TOKEN": "a"}, None, None),
        ({}, "auto", None),
    ],
)
def test_a_cluster_is_joined_with_the_token_that_there_is(
    given: dict[str, str], address: str | None, mode: str | None, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    environment = {"HOME": str(tmp_path), **given}
    monkeypatch.setattr("os.environ", environment)
    prepare(address)
    assert environment.get("RAY_AUTH_MODE") == mode
