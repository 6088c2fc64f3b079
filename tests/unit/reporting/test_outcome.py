"""Tests of a run's outcome: the state machine, and what the parent process settles."""

import json

import pytest

from datamodules.errors import UserError
from reporting.outcome import (
    OUTCOME_FILE,
    STOPPED,
    Outcome,
    RunInterrupted,
    read_outcome,
    read_outcome_if_valid,
    record_outcome,
    settle_outcome,
    write_outcome,
)


def test_a_score_that_is_no_number_is_none_in_valid_json(tmp_path):
    write_outcome(tmp_path, Outcome(status="finished", score=float("nan")))
    found = json.loads((tmp_path / OUTCOME_FILE).read_text(), parse_constant=pytest.fail)
    assert found == {
        "status": "finished",
        "score": None,
        "failure": None,
        "overrides": None,  # no command line started this test
        "seconds": None,
    }
    assert [path.name for path in tmp_path.iterdir()] == [OUTCOME_FILE]


def recorded(tmp_path, end=lambda recorder: None, error=None):
    """The outcome during and after a run that ends by `end` or by an exception."""
    try:
        with record_outcome(tmp_path) as recorder:
            during = read_outcome(tmp_path)
            end(recorder)
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    return during, read_outcome(tmp_path)


@pytest.mark.parametrize(
    ("end", "error", "status", "score", "failure"),
    [
        (lambda r: r.finish(0.5), None, "finished", 0.5, None),
        (lambda r: r.finish(None), None, "finished", None, None),
        (lambda r: r.prune(0.25), None, "pruned", 0.25, None),
        (lambda r: None, UserError("lr=-1 is wrong"), "failed", None, "lr=-1 is wrong"),
        (lambda r: None, ValueError("odd"), "failed", None, "ValueError: odd"),
        (lambda r: r.finish(0.5), ValueError("odd"), "failed", None, "ValueError: odd"),
        (lambda r: None, RunInterrupted("saved"), "interrupted", None, None),
        (lambda r: None, KeyboardInterrupt(), "interrupted", None, None),
        (lambda r: None, SystemExit(STOPPED), "interrupted", None, None),
        (lambda r: None, SystemExit(1), "failed", None, "its process ended with exit code 1"),
        (lambda r: r.fail("why"), SystemExit(1), "failed", None, "why"),
    ],
)
def test_a_run_is_running_until_it_ends_in_one_state(end, error, status, score, failure, tmp_path):
    during, after = recorded(tmp_path, end, error)
    assert during.status == "running" and not during.has_ended
    assert (after.status, after.score, after.failure) == (status, score, failure)
    assert after.has_ended == (status != "interrupted") and after.seconds >= 0


def test_a_run_within_a_trial_has_the_trial_as_its_only_writer(tmp_path):
    (tmp_path / "fold0").mkdir()
    again = tmp_path / "fold0" / ".."
    with record_outcome(tmp_path) as trial:
        with record_outcome(tmp_path / "fold0") as other, record_outcome(again) as run:
            run.finish(0.5)
        assert run is trial and other is not trial
        assert read_outcome(tmp_path).status == "running"
    assert read_outcome(tmp_path).score == 0.5


FINISHED = Outcome(status="finished", score=0.5, overrides=["seed=1"], seconds=3.0)
RUNNING = Outcome(status="running", overrides=["seed=1"])
FAILED = Outcome(status="failed", failure="no memory")
KILLED = "killed by SIGKILL, which the system sends if memory runs out"


@pytest.mark.parametrize(
    ("left", "code", "reason", "status", "why"),
    [
        (FINISHED, 0, None, "finished", None),
        (Outcome(status="pruned", score=0.5), 0, None, "pruned", None),
        (FAILED, 1, None, "failed", "no memory"),
        (FAILED, 1, "a job was lost", "failed", "no memory"),
        (FINISHED, 1, None, "failed", "its process ended with exit code 1"),
        (FINISHED, 0, "it has no score", "failed", "it has no score"),
        (None, 0, None, "failed", "exit code 0"),
        (RUNNING, 1, "a job was lost", "failed", "a job was lost"),
        (RUNNING, -9, None, "failed", KILLED),
        (None, -11, None, "failed", "killed by SIGSEGV"),
        (RUNNING, STOPPED, None, "interrupted", None),
        (FAILED, STOPPED, None, "interrupted", None),
    ],
)
def test_the_parent_settles_what_the_process_could_not_write(
    left, code, reason, status, why, tmp_path
):
    if left is not None:
        write_outcome(tmp_path, left)
    settled = settle_outcome(tmp_path, code, reason, seconds=8.0)
    assert settled == read_outcome(tmp_path) and settled.status == status
    assert (why or "") in (settled.failure or "") and (why is None) == (settled.failure is None)
    assert settled.seconds == (3.0 if left is FINISHED else 8.0)
    assert settled.overrides == (None if left is None else left.overrides)


@pytest.mark.parametrize(
    "content",
    ['{"status": "fin', '{"status": "done"}', "[]", '{"status": "finished", "score": true}'],
)
def test_a_damaged_file_is_named_and_can_be_settled(content, tmp_path):
    (tmp_path / OUTCOME_FILE).write_text(content)
    with pytest.raises(UserError, match=r"outcome\.json is not an outcome that can be read"):
        read_outcome(tmp_path)
    assert read_outcome_if_valid(tmp_path) is None
    assert settle_outcome(tmp_path, 1).status == "failed"
    assert (
        read_outcome(tmp_path).failure
        == "its process ended with exit code 1 and left no outcome.json"
    )
