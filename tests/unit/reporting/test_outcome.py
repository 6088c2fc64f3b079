"""Tests of a run's outcome, from the files it left and from its process."""

import json

import pytest

from reporting.outcome import (
    OUTCOME_FILE,
    STOPPED,
    finalize_outcome,
    read_outcome,
    set_duration,
    write_outcome,
)


def test_a_score_that_is_no_number_is_none_in_valid_json(tmp_path):
    write_outcome(tmp_path, float("nan"))
    found = json.loads((tmp_path / OUTCOME_FILE).read_text(), parse_constant=pytest.fail)
    assert found == {
        "status": "finished",
        "score": None,
        "failure": None,
        "overrides": None,
    }  # no command line started this test
    assert [path.name for path in tmp_path.iterdir()] == [OUTCOME_FILE]


@pytest.mark.parametrize(
    ("left", "code", "status", "why"),
    [
        ({"score": 0.5}, 0, "finished", None),
        ({"score": 0.5, "status": "pruned"}, 0, "pruned", None),
        ({"score": None, "failure": "no memory"}, 1, "failed", "no memory"),
        ({"score": 0.5}, 1, "failed", "its process ended with exit code 1"),
        (None, 0, "failed", "exit code 0"),
        (
            None,
            -9,
            "failed",
            "killed by SIGKILL, which is what the system sends where memory runs out",
        ),
        (None, -11, "failed", "killed by SIGSEGV"),
    ],
)
def test_a_process_that_ended_without_a_word_has_failed(left, code, status, why, tmp_path):
    if left is not None:
        write_outcome(tmp_path, **left)
    said = finalize_outcome(tmp_path, code)
    assert (
        said == read_outcome(tmp_path)
        and said["status"] == status
        and (why or "") in (said["failure"] or "")
    )


def test_a_run_that_was_stopped_has_no_outcome_and_can_go_on(tmp_path):
    write_outcome(tmp_path, None, "Interrupted: stopped after step 7")
    assert finalize_outcome(tmp_path, STOPPED) is None and read_outcome(tmp_path) is None


def test_what_cannot_be_read_is_no_outcome(tmp_path):
    (tmp_path / OUTCOME_FILE).write_text('{"status": "fin')
    assert read_outcome(tmp_path) is None
    set_duration(tmp_path, 3.0)
    assert read_outcome(tmp_path) is None
