"""Tests of two folds of one command logged to W&B offline.

Each fold is a run in one group, with the numbers of its run folder.
"""

import json
import subprocess
import sys

import pandas as pd
import pytest

from evaluation import evidence
from run import CONF
from tests.conftest import SMALL
from tests.factories.wandb_reader import only


@pytest.mark.slow
def test_each_fold_is_a_run_of_its_own_with_the_numbers_of_its_folder(
    cli, export, tmp_path, monkeypatch, capfd
):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    folder = tmp_path / "2026-01-02_03-04-05"
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        "folds=2",
        "trainer.max_epochs=1",
        "logger=wandb",
        folder=folder,
    )
    assert code == 0, said
    places = [folder / "fold0", folder / "fold1"]
    runs = [only(place) for place in places]
    assert [(run.run.run_group, run.run.display_name, run.code) for run in runs] == [
        ("unetpp_brain_tumor 2026-01-02_03-04-05", f"fold {fold}", 0) for fold in range(2)
    ]
    assert runs[0].run.run_id != runs[1].run.run_id and not (folder / "wandb").exists()
    for place, run in zip(places, runs, strict=True):
        table, report = (
            pd.read_csv(place / "metrics.csv"),
            json.loads((place / "report.json").read_text()),
        )
        for name in ("train/loss", "val/loss", "val/dice", "test/dice", "lr-AdamW"):
            assert run.values(name) == pytest.approx(table[name].dropna().tolist()), name
        for name, estimate in report["scores"]["test"]["tumor"].items():
            ends = [run.summary.get(f"test/{name}{end}") for end in ("", "/low", "/high")]
            assert ends == [estimate[key] for key in ("value", "low", "high")]
        ids = evidence.read_evidence(place / "evidence" / "test.npz").ids.tolist()
        for path in (path for path in (place / "wandb").rglob("*") if path.is_file()):
            assert not [
                word
                for word in (*ids, str(export), str(tmp_path))
                if word.encode() in path.read_bytes()
            ], path


@pytest.mark.slow
def test_networks_are_loaded_without_it():
    asks = "import sys; import lightning_modules.library_imports; sys.exit('wandb' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", asks], cwd=CONF.parent, timeout=300).returncode == 0
    )
