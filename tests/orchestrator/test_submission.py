from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import EXAMPLES, settings_of

from orchestrator.command_line import parse
from orchestrator.errors import UserError
from orchestrator.settings import parse_name
from orchestrator.submission import (
    STOP_WAIT_S,
    Answer,
    Job,
    Submission,
    attempts_of,
    decide,
    default_name,
    digest,
    entrypoint,
    known_names,
    metadata,
    next_id,
    variables,
)

SETTINGS = settings_of(storage="/shared/runs")
NEW = Submission("a", SETTINGS)
RESUME = Submission("a", None, is_resume=True)


def job(
    job_id: str = "a", status: str = "RUNNING", of: Submission = NEW, started: float = 1.0, **more: Any
) -> Job:
    return Job(job_id, status, started=started, metadata=metadata(of, "/shared/runs", None), **more)


def test_equal_settings_have_one_name_and_others_have_others() -> None:
    name = default_name(SETTINGS, [])
    assert (
        name == default_name(settings_of(storage="/shared/runs"), []) == f"s-{digest(SETTINGS, [])[:8]}"
    )
    others = [settings_of(storage="/other"), settings_of(storage="/shared/runs", search={"trials": 65})]
    names = {name, default_name(SETTINGS, ["earlier"]), *(default_name(other, []) for other in others)}
    assert len(names) == 4


def test_a_name_is_a_name_however_long_the_settings_name_is() -> None:
    long = settings_of(name="n" * 100)
    assert parse_name(default_name(long, [])).startswith("n" * 91)


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_the_same_again_is_the_one_that_runs(status: str) -> None:
    assert decide(NEW, []) is Answer.SUBMIT
    assert decide(NEW, [job(status=status)]) is Answer.IS_RUNNING
    assert decide(RESUME, [job(status=status)]) is Answer.IS_RUNNING
    longer = RESUME._replace(overrides=("search.trials=9",))
    attempts = [job(status="STOPPED"), job("a-resumed-1", status, of=longer, started=2.0)]
    assert decide(longer, attempts) is Answer.IS_RUNNING


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_one_that_ended_goes_on_only_by_resume(status: str) -> None:
    ended = [job(status=status)]
    assert decide(NEW, ended) is Answer.HAS_ENDED
    assert decide(RESUME, ended) is Answer.SUBMIT
    assert decide(RESUME._replace(overrides=("search.trials=70",)), ended) is Answer.SUBMIT


def test_one_that_was_refused_leaves_its_name_to_another() -> None:
    other = NEW._replace(settings=settings_of(storage="/elsewhere"))
    refused = [job(status="FAILED", exit_code=2)]
    assert decide(other, refused) is Answer.SUBMIT
    begun = [*refused, job("a-resumed-1", "FAILED", started=2.0, exit_code=1)]
    with pytest.raises(UserError, match=r"with it by --resume a, with the file too if it ended before"):
        decide(other, begun)


def test_the_last_attempt_says_whether_it_runs() -> None:
    jobs = [job("a-resumed-1", started=2.0), job(status="STOPPED"), job("b", of=NEW._replace(name="b"))]
    assert [each.id for each in attempts_of(jobs, "a")] == ["a", "a-resumed-1"]
    assert decide(NEW, jobs) is Answer.IS_RUNNING
    assert known_names(jobs) == ["a", "b"]


@pytest.mark.parametrize(
    ("submission", "status", "message"),
    [
        (NEW._replace(imports=("b",)), "RUNNING", "a is running with other settings; stop it"),
        (RESUME._replace(overrides=("search.trials=9",)), "RUNNING", "a is running with other settings"),
        (RESUME._replace(overrides=("search.trials=9",)), "PENDING", "a is running with other settings"),
        (NEW._replace(settings=settings_of()), "SUCCEEDED", "submitted before with other settings"),
    ],
)
def test_other_settings_under_the_name_are_refused(
    submission: Submission, status: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        decide(submission, [job(status=status)])


def test_the_name_of_somebody_elses_job_is_refused() -> None:
    with pytest.raises(UserError, match="a is the id of another job there; choose another name"):
        decide(NEW, [Job("a", "SUCCEEDED")])


def test_each_attempt_has_an_id_of_its_own() -> None:
    assert next_id("a", []) == "a"
    assert next_id("a", [job("a"), job("a-resumed-2")]) == "a-resumed-1"
    assert next_id("a", [job("a"), job("a-resumed-1"), job("b")]) == "a-resumed-2"


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (Job("a", "SUCCEEDED", 0), 0),
        (Job("a", "FAILED", 2), 2),
        (Job("a", "FAILED", -9), 137),
        (Job("a", "FAILED"), 1),
        (Job("a", "STOPPED"), 130),
    ],
)
def test_exit_codes_are_those_of_a_shell(job: Job, code: int) -> None:
    assert job.code == code


@EXAMPLES
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)))
def test_a_shell_reads_the_command_as_the_words_that_it_is_of(texts: list[str]) -> None:
    submission = RESUME._replace(overrides=tuple(f"search.x={text}" for text in texts))
    command = entrypoint(submission, "/shared/$(reboot)")
    words = shlex.split(command)
    assert words[:4] == ["exec", "python", "-m", "orchestrator.sweep"]
    options = parse(words[4:])
    assert options.overrides == ["storage=/shared/$(reboot)", *submission.overrides]
    assert (options.resume, options.address, options.file) == ("a", "auto", None)


@pytest.mark.slow
def test_a_real_shell_expands_nothing_of_the_command() -> None:
    command = entrypoint(RESUME._replace(overrides=("search.x='; echo $HOME `id`",)), "/shared/a b")
    shown = subprocess.run(
        ["sh", "-c", command.replace("exec python", "printf '%s|'")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert shown.split("|")[2:6] == [
        "--set",
        "storage=/shared/a b",
        "--set",
        "search.x='; echo $HOME `id`",
    ]


def test_a_new_sweep_is_begun_or_gone_on_with() -> None:
    options = parse(shlex.split(entrypoint(NEW._replace(imports=("b", "mlflow:c")), "/shared"))[4:])
    assert (str(options.file), options.name, options.or_resume) == ("sweep.yaml", "a", True)
    assert (options.imports, options.address, options.resume) == (["b", "mlflow:c"], "auto", None)
    assert options.resolved


@pytest.mark.parametrize("is_known", [False, True])
def test_a_resume_begins_only_what_was_submitted_before_with_its_file(is_known: bool) -> None:
    named = NEW._replace(is_resume=True)
    options = parse(shlex.split(entrypoint(named, "/shared", is_known))[4:])
    assert str(options.file) == "sweep.yaml"
    assert (options.resume, options.name) == ((None, "a") if is_known else ("a", None))
    assert options.or_resume == is_known
    assert parse(shlex.split(entrypoint(RESUME, "/shared", is_known))[4:]).resume == "a"


def test_the_job_says_what_it_is_of() -> None:
    facts = metadata(NEW, "/shared/runs", "abc-dirty")
    assert facts["sweep"] == facts["name"] == "a"
    assert facts["git_commit"] == "abc-dirty"
    assert Job("a", "RUNNING", metadata=facts).storage == "/shared/runs"
    assert facts["settings_digest"] == digest(SETTINGS, [])
    assert all(isinstance(value, str) for value in metadata(RESUME, "/shared/runs", None).values())
    assert variables("abc") == {
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
        "MONOCON_GIT_COMMIT": "abc",
    }
    assert variables(None).keys() == {"RAY_JOB_STOP_WAIT_TIME_S"}
