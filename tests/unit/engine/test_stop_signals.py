"""Tests of SIGINT and SIGTERM outside training."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from engine.stop_signals import STOP_SIGNALS, explain_stop, handle_stop_signals
from reporting import outcome
from reporting.outcome import RepeatedSignal, StopRequested, read_outcome, record_outcome


@pytest.mark.parametrize(("number", "name"), [(2, "Ctrl-C"), (15, "SIGTERM")])
def test_a_signal_ends_the_work_and_no_handler_of_errors_catches_it(number, name, tmp_path):
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with pytest.raises(StopRequested, match=f"^stopped by {name}$"), handle_stop_signals():
        with record_outcome(tmp_path):
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except Exception:
                pytest.fail("an error handler caught the stop")
    assert read_outcome(tmp_path).status == "interrupted"
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_the_second_delivery_of_one_request_is_passed_over(monkeypatch):
    now = iter([0.0, 0.02, 0.5, 2.0, 2.0])
    monkeypatch.setattr(outcome.time, "monotonic", lambda: next(now))
    repeated = RepeatedSignal()
    # Ctrl-C, again by uv 20 ms later, once more in half a second; then by hand, and a SIGTERM
    assert [repeated(2), repeated(2), repeated(2), repeated(2)] == [False, True, True, False]
    assert repeated(15) is False


def test_a_forked_worker_ends_silently():
    with handle_stop_signals():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
            os._exit(3)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("tasks", "saved", "fix"),
    [
        (["fit", "test"], True, "continue with the same command and ckpt_path="),
        (["fit"], False, "nothing was trained: start the same command again"),
        ("test", True, "before it was complete; start the same command again"),
    ],
)
def test_the_message_says_how_to_go_on(tasks, saved, fix, tmp_path):
    if saved:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/last.ckpt").touch()
    cfg = SimpleNamespace(do=tasks, paths=SimpleNamespace(run=tmp_path))
    found = explain_stop(StopRequested(15), cfg)
    assert str(found).startswith("stopped by SIGTERM") and fix in str(found)
    assert found.exit_code == 130
