from __future__ import annotations

import pytest
from stores import URL, MemoryStore

from orchestrator import storage_check
from orchestrator.errors import UserError
from orchestrator.storage_check import look_at
from trainables.places import write_object

REFUSED = {
    "s3://user:password@bucket/runs": "give it by the environment, for S3 as AWS_ACCESS_KEY_ID",
    "s3://KEY:pass/word@bucket/runs": "storage holds a password",
    "gs://bucket/runs": "storage: gs:// needs a package that is not here: pip install gcsfs",
    "sftp://host/runs": "sftp:// needs a package that is not here: .*paramiko",
    "s4://bucket/runs": "s4:// is not the URL of a store .* such as s3://BUCKET/PREFIX",
    "memory://runs": "memory:// is not the URL of a store that all nodes can share",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_no_client_can_use_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=REFUSED[url]) as raised:
        look_at(url)
    assert raised.value.location == ("storage",)
    assert "password@" not in str(raised.value)


def test_a_user_name_alone_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="gcsfs"):
        look_at("gs://user@bucket/runs")


@pytest.fixture
def shared(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A store that tests take for one that all nodes share."""
    monkeypatch.setattr(storage_check, "_NOT_SHARED", ())
    return memory


def test_what_is_there_is_told(shared: MemoryStore) -> None:
    write_object(f"{URL}/s/sweep.yaml", b"")
    assert look_at(f"{URL}/s") == ["sweep.yaml"]
    assert look_at(f"{URL}/other") == []


def test_a_store_that_does_not_answer_is_refused(shared: MemoryStore) -> None:
    shared.is_away = True
    with pytest.raises(UserError, match=f"storage: {URL}/s cannot be read: no answer; see that"):
        look_at(f"{URL}/s")
