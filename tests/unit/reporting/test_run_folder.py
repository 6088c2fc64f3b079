"""Tests of the one reader and writer of a run folder."""

import math

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from datamodules.errors import UserError
from reporting.fold_runs import load_fold_run
from reporting.run_folder import RunFolder, find_evaluated_runs
from reporting.run_index import read_entry
from reporting.trials import load_trials
from tests.factories.run_folder import changed, labels, left


def test_what_is_written_is_read_back(tmp_path):
    run = RunFolder(left(tmp_path / "run", labels(), 0.5, seed=3))
    assert run.title == "t" and run.evaluated_split == "test" and run.config["seed"] == 3
    assert run.monitor == ("val/f1", "max") and run.score("val", "f1") == 0.5
    assert (run.outcome.status, run.outcome.score) == ("finished", 0.5)
    assert run.evidence.identity == labels().identity and run.has_evidence("test")
    assert not run.has_evidence("val") and run.stages == [] and run.epochs().empty
    run.write_report(run.report | {"resources": {"seconds": np.float32(2), "loss": math.nan}})
    assert run.report["resources"] == {"seconds": 2.0, "loss": None}


def test_the_composition_keeps_overrides_and_interpolations(tmp_path):
    run = RunFolder(tmp_path / "run/fold0")
    words = ["seed=3", "datamodule.root='/tümor (1)'", "fold=0", "x=" + "y" * 200]
    config = OmegaConf.create({"seed": 3, "datamodule": {"seed": "${seed}"}})
    run.write_composition(config, words)
    run.write_config(config)
    again = RunFolder(run.path)
    assert again.overrides == words
    assert again.unresolved_config["datamodule"]["seed"] == "${seed}"
    assert again.config["datamodule"]["seed"] == 3
    assert yaml.safe_load((run.path / ".hydra/overrides.yaml").read_text()) == words


def test_half_a_last_row_of_a_killed_run_is_no_number(tmp_path):
    whole = "epoch,step,train/loss\r\n0,3,0.75\r\n"
    for half in ("1", "1,7,0.1", "1,7,0.125\r"):  # the row was 1,7,0.125
        (tmp_path / "metrics.csv").write_text(whole + half, newline="")
        run = RunFolder(tmp_path)
        assert run.metrics_text == whole
        assert run.epochs()["train/loss"].to_dict() == {0: 0.75}
    (tmp_path / "metrics.csv").write_text("epoch,st")
    assert run.metrics_text == "" and run.epochs().empty


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"title": 3}, "title"),
        ({"scores": {"test": {"a": {"f1": {"value": "0.5"}}}}}, r"scores\.test\.a\.f1\.value"),
        ({"scores": {"test": {"a": {"f1": {"value": True}}}}}, r"scores\.test\.a\.f1\.value"),
        ({"scores": {"test": {"a": {"f1": {}}}}}, r"scores\.test\.a\.f1\.value"),
        ({"headline_metrics": "dice"}, "headline_metrics"),
        ({"data": []}, "data"),
        ({"fits": [{"fold": 0, "seed": 1}]}, r"fits\.0\.folder"),
        ({"schema": 4}, "newer than 3"),
    ],
)
def test_a_report_of_another_shape_is_refused_with_its_file_and_key(change, key, tmp_path):
    run = RunFolder(changed_run(tmp_path, change))
    with pytest.raises(UserError, match=rf"report\.json is not a report that can be read.*{key}"):
        _ = run.report


def changed_run(tmp_path, change):
    """A run whose report.json has other values."""
    folder = left(tmp_path / "run", labels(), 0.5)
    changed(folder, **change)
    return folder


DAMAGED = {
    "report.json": '{"title": "t", "sco',
    "outcome.json": '{"status": "done"}',
    "config.yaml": "fold: [4",
    "evidence/test.npz": "PK",
}


@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_file_is_named_by_every_reader_and_hides_no_other_run(file, tmp_path, capsys):
    for number in range(3):
        folder = left(tmp_path / str(number), labels(noise=number), 0.5)
        (folder / ".hydra").mkdir()
        (folder / ".hydra/overrides.yaml").write_text(f"[lr=1e-{number}]")
    (tmp_path / "1" / file).write_text(DAMAGED[file])
    entries = [read_entry(tmp_path / str(number), tmp_path)[0] for number in range(3)]
    read_by_leaderboard = file != "config.yaml"  # of a finished run the report's copy counts
    assert [entry.status for entry in entries[::2]] == ["finished", "finished"]
    assert (entries[1].status == "cannot be read") == read_by_leaderboard
    assert not read_by_leaderboard or str(tmp_path / "1" / file) in entries[1].reason
    trials = load_trials(tmp_path)
    assert [trial.score for trial in trials[::2]] == [0.5, 0.5] and len(trials) == 3
    assert trials[1].varied_values == {"lr": "1e-1"}
    if file in ("report.json", "evidence/test.npz"):
        assert [run.path.name for run in find_evaluated_runs(tmp_path)] == ["0", "2"]
    said = capsys.readouterr().err
    assert str(tmp_path / "1" / file) in said or file == "evidence/test.npz"
    reason = load_fold_run(tmp_path / "1").missing_reason
    assert str(tmp_path / "1" / file) in (reason or "") or file == "evidence/test.npz"


def test_what_is_no_run_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"holds no report\.json.*do=\[test\] ckpt_path="):
        _ = RunFolder(tmp_path).report
    with pytest.raises(UserError, match="or a run folder that holds"):
        RunFolder(tmp_path).checkpoint()
    assert RunFolder(tmp_path).config == {} and RunFolder(tmp_path).overrides == []
    assert RunFolder(tmp_path).outcome is None
