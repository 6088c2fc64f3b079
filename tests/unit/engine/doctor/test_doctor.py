"""Tests of do=doctor: failing or hanging checks do not affect others; errors exit with code 1."""

import json
import os
import time
from types import SimpleNamespace

import psutil
import pytest

from engine.doctor import distributed, doctor, environment
from engine.doctor.check_result import CheckResult, Issue, sort_by_severity
from engine.doctor.distributed import ProcessResult
from tests.unit.engine.doctor.conftest import SMALL_NET, STOPS, WARNS, config, only


def test_a_check_that_fails_or_hangs_leaves_the_rest(plain):
    checks = {
        "well": lambda cfg: CheckResult({"a": "b"}),
        "broken": lambda cfg: 1 / 0,
        "hangs": lambda cfg: time.sleep(30),
    }
    answers = doctor.run_checks(checks, plain, 0.5)
    assert answers["well"] == CheckResult({"a": "b"})
    only(
        answers["broken"],
        WARNS,
        "the check of broken failed (ZeroDivisionError)",
        "the other checks are valid",
    )
    only(
        answers["hangs"],
        WARNS,
        "the check of hangs did not answer within 0.5 s",
        "a drive or a driver hangs",
    )


def test_what_stops_a_run_stands_first_and_once():
    slow, stops = Issue(WARNS, "slow", "mend"), Issue(STOPS, "stops", "mend")
    assert sort_by_severity([CheckResult(issues=(slow,)), CheckResult(issues=(stops, stops))]) == [
        stops,
        slow,
    ]


@pytest.fixture
def quick(monkeypatch):
    """No processes are started."""
    child = SimpleNamespace(
        result=lambda seconds, given: ProcessResult(0, "", ""), end=lambda: None
    )
    monkeypatch.setattr(doctor, "start_benchmark", lambda: child)
    monkeypatch.setattr(
        distributed, "run_peers", lambda backend, processes: [ProcessResult(0, "800.0\n", "")] * 2
    )


@pytest.mark.parametrize("word", ["do=doctor", "do=[doctor]"])
def test_what_would_stop_a_run_is_told_and_ends_with_1(word, quick, cli, tmp_path):
    code, said = cli(
        "experiment=unetpp_brain_tumor",
        word,
        f"datamodule.root={tmp_path / 'none'}",
        "module.net.encoder.weights=null",
    )
    assert (
        code == 1
        and said.strip().splitlines()[-1]
        == "1 of the problems above would stop a run of unetpp_brain_tumor here; fix them first"
    )
    found = json.loads((tmp_path / "run/doctor.json").read_text(encoding="utf-8"))
    assert (
        found["findings"][0]["severity"] == STOPS
        and "is not a folder" in found["findings"][0]["problem"]
    )
    assert set(found["checks"]) == {*doctor.LOOKING, "speed"}


def test_the_page_fits_80_columns(quick, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    doctor.run_doctor(config("scale=demo"), tmp_path)
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("doctor · test") and rows[-1].endswith(
        f"as JSON: {tmp_path / 'doctor.json'}"
    )
    assert max(map(len, rows[:-1])) <= 80


def test_warnings_do_not_count(quick, cli, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "commit_here", lambda: None)
    code, said = cli("do=doctor")
    assert code == 0, said
    found = json.loads((tmp_path / "run/doctor.json").read_text(encoding="utf-8"))["findings"]
    assert WARNS in {finding["severity"] for finding in found} and STOPS not in {
        finding["severity"] for finding in found
    }


def test_a_step_that_stands_alone_may_be_one_word(cli):
    code, said = cli("do=compare")
    assert code == 2 and "no runs to compare" in said
    code, said = cli("do=fitt")
    assert code == 2 and "do=[fitt] is unknown" in said
    code, said = cli("do=[doctor,fit]")
    assert code == 2 and "doctor cannot be combined; set do=[doctor]" in said


@pytest.mark.slow
def test_the_whole_of_it_on_this_machine(cli, tmp_path):
    code, said = cli("do=doctor", *SMALL_NET, "trainer.accelerator=cpu")
    assert code == 0, said
    found = json.loads((tmp_path / "run/doctor.json").read_text(encoding="utf-8"))
    measured = found["checks"]["speed"]["measured"]
    assert {"loader", "network", "step"} <= {line["line"] for line in measured} and found["checks"][
        "gloo"
    ]["works"], found
    assert found["checks"]["cores"]["allowed"] == (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    assert found["checks"]["memory"]["total_bytes"] <= psutil.virtual_memory().total
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.suffix == ".json") == [
        "doctor.json"
    ]
