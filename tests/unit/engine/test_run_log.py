"""Tests of run.log: what the terminal shows, without what only draws on it."""

import logging
import sys

import pytest

from datamodules.errors import UserError
from engine.run_lock import FolderInUse
from engine.run_log import run_log


def test_the_log_holds_what_both_streams_show(tmp_path, capsys):
    with pytest.raises(ZeroDivisionError), run_log(tmp_path):
        print("one")
        print("two", end="")
        print(" and three", file=sys.stderr)
        raise ZeroDivisionError("by zero")
    text = (tmp_path / "run.log").read_text()
    assert text == "one\n and three\ntwo\n"  # the traceback is added by engine/bug_report.py
    out, err = capsys.readouterr()
    assert out == "one\ntwo" and err.startswith(" and three\n") and "Traceback" not in err


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("\x1b[1mbold\x1b[0m and plain\n", "bold and plain\n"),
        ("\rstep 1\rstep 2\rdone\n", "done\n"),
        ("\x1b[2K\x1b[1A\x1b[2K\n", ""),
        ("Epoch 1/3 \u2501\u2501\u2578  10/31 0:00:01\n", ""),
        ("\x1b[2K\x1b[1Asaid above a bar\nEpoch \u2501\u2501 3/9", "said above a bar\n"),
        ("\n", "\n"),
        ("t\u00fcmor\n", "t\u00fcmor\n"),
    ],
)
def test_what_only_draws_on_the_screen_is_left_out(written, kept, tmp_path):
    with run_log(tmp_path):
        sys.stdout.write(written)
    path = tmp_path / "run.log"
    assert (path.read_text(encoding="utf-8") if path.exists() else "") == kept


def test_a_refusal_is_logged_as_its_sentence_but_not_in_the_folder_of_another_run(tmp_path):
    with pytest.raises(UserError), run_log(tmp_path):
        raise UserError("a is wrong; set b")
    assert (tmp_path / "run.log").read_text() == "a is wrong; set b\n"
    with pytest.raises(FolderInUse), run_log(tmp_path):
        raise FolderInUse("in use")
    assert (tmp_path / "run.log").read_text() == "a is wrong; set b\n"


def test_a_run_goes_on_if_its_log_cannot_be_written(tmp_path, capsys):
    with run_log(tmp_path / "none"):
        print("still here")
    assert capsys.readouterr().out == "still here\n"


def test_a_handler_that_outlives_the_run_does_not_write_into_its_log(tmp_path, capsys):
    with run_log(tmp_path):
        handler = logging.StreamHandler(sys.stderr)
        handler.emit(logging.makeLogRecord({"msg": "within"}))
    handler.emit(logging.makeLogRecord({"msg": "later"}))
    assert (tmp_path / "run.log").read_text() == "within\n"
    assert capsys.readouterr().err == "within\nlater\n"
