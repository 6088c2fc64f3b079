"""Tests of the run that a demo needs: the newest one that still serves, else one that is made."""

import pytest

from engine import tasks
from engine.composition import compose_run, composed_run
from tests.factories.run_folder import labels, left


@pytest.mark.parametrize("phantoms_exist", [True, False])
def test_a_run_whose_phantoms_were_deleted_is_made_again(phantoms_exist, tmp_path, monkeypatch):
    phantoms, runs = tmp_path / "cache/phantoms/bone_scan", tmp_path / "runs"
    data = {"_target_": "datamodules.BoneScanDataModule", "root": str(phantoms)}
    old = left(runs / "weak_bone_scan/old", labels(), 0.5, datamodule=data)
    (old / "pseudo_labels").mkdir()
    (old / "pseudo_labels/manifest.csv").touch()
    if phantoms_exist:
        phantoms.mkdir(parents=True)
    monkeypatch.setattr(tasks, "_run_demo", lambda cfg, name: runs / name / "new")
    words = ["experiment=pseudo_mask_bone_scan", "scale=demo", f"paths.runs={runs}"]
    with composed_run(compose_run(words), words, tmp_path / "run") as cfg:
        made = tasks._resolve_references(cfg)
        assert cfg.datamodule.root == str(old if phantoms_exist else runs / "weak_bone_scan/new")
    assert [one.experiment for one in made] == ([] if phantoms_exist else ["weak_bone_scan"])
