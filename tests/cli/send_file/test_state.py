"""The resume state of a job: written atomically, and readable only by its owner."""

from pathlib import Path

import pytest

from receiptsvc.cli.send_file import state
from receiptsvc.cli.send_file.state import Job, StateError


def start(path: Path, *, is_again: bool = False) -> Job:
    return state.start(path, digest="d", chunks=[2, 1], sender="s", is_again=is_again)


def test_a_state_is_read_as_it_was_saved_and_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "messages.csv.receiptsvc.json"
    assert state.load(path) is None
    job = start(path)
    job.chunks[0].is_begun = True
    job.chunks[0].ids = ["msg_1", "msg_2"]
    job.chunks[1].is_begun = True
    job.save()
    assert state.load(path) == job
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path], "nothing else is left"
    assert (job.messages, job.taken, job.is_done, job.is_unclear) == (3, 2, False, True)
    assert job.key(0) != job.key(1)


def test_two_runs_at_the_same_time_never_start_two_jobs(tmp_path: Path) -> None:
    first = start(tmp_path / "state")
    with pytest.raises(StateError, match="another run has just started"):
        start(tmp_path / "state")
    assert state.load(tmp_path / "state") == first
    again = start(tmp_path / "state", is_again=True)
    assert again.id != first.id
    assert state.load(tmp_path / "state") == again
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "chunks": [{"x": 1}]}', "\xff"])
def test_a_file_that_is_not_a_state_is_reported_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(StateError, match="not a readable state of sending"):
        state.load(path)
    assert path.read_text(encoding="latin-1") == content


def test_a_state_that_cannot_be_written_names_the_job_option(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"--job NAME"):
        start(tmp_path / "no such folder" / "state")
