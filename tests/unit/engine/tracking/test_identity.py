"""Tests of a W&B run's group, name and id, which follow from the place of its run folder."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from engine.tracking.identity import ID_FILE, RunIdentity, run_id, run_identity

TIME = "2026-11-25_22-04-06"


def config(run: Path, **more) -> DictConfig:
    run.mkdir(parents=True, exist_ok=True)
    return OmegaConf.create(
        {
            "do": ["fit", "test"],
            "folds": 0,
            "fold": None,
            "resume": None,
            "ckpt_path": None,
            "paths": {"run": str(run)},
        }
        | more
    )


def sweep(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").touch()
    return folder


@pytest.fixture(autouse=True)
def no_words(monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_alone_has_no_group(tmp_path):
    assert run_identity(config(tmp_path / TIME), "demo") == RunIdentity(
        None, f"demo {TIME}", "train"
    )
    assert run_identity(config(tmp_path / "slurm-12", do=["test"]), "demo") == RunIdentity(
        None, "demo slurm-12", "test"
    )


def test_trials_and_folds_are_grouped(tmp_path):
    trials = sweep(tmp_path / TIME)
    assert run_identity(config(trials / "3"), "demo") == RunIdentity(
        f"demo {TIME}", "trial 3", "train"
    )
    assert run_identity(config(trials / "3", folds=5, fold=1), "demo") == RunIdentity(
        f"demo {TIME}", "trial 3, fold 1", "train"
    )
    assert run_identity(config(trials / "3" / "fold2", folds=5, fold=2), "demo") == RunIdentity(
        f"demo {TIME}", "trial 3, fold 2", "train"
    )
    other = tmp_path / "2026-01-01_00-00-00"
    assert run_identity(config(other / "fold2", folds=5, fold=2), "demo") == RunIdentity(
        "demo 2026-01-01_00-00-00", "fold 2", "train"
    )
    assert run_identity(config(other, folds=5, fold=2), "demo") == RunIdentity(
        None, "demo 2026-01-01_00-00-00, fold 2", "train"
    )


def test_a_name_that_the_user_gave_a_folder_is_not_told_and_still_groups(tmp_path):
    trials = sweep(tmp_path / "ward-7-smith")
    first, second = (run_identity(config(trials / name), "demo") for name in "01")
    assert (
        first.group == second.group
        and "smith" not in str(first)
        and first.group != run_identity(config(sweep(tmp_path / "b") / "0"), "demo").group
    )


def test_a_resumed_run_goes_on_in_its_id_and_another_does_not(tmp_path):
    run = tmp_path / "run"
    first = run_id(config(run))
    assert run_id(config(run)) != first  # the same folder begun again
    known = (run / ID_FILE).read_text().strip()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    assert run_id(config(run, resume="auto")) == known
    for start in (run, run / "checkpoints" / "last.ckpt"):
        assert run_id(config(tmp_path / "on", ckpt_path=str(start))) == known
    assert (tmp_path / "on" / ID_FILE).read_text().strip() == known
    assert run_id(config(tmp_path / "tested", ckpt_path=str(run), do=["test"])) != known
    assert (
        run_id(config(sweep(tmp_path / "sweep") / "0", ckpt_path=str(run))) != known
    )  # several trials may start from there


def test_an_id_that_is_given_from_outside_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert run_id(config(tmp_path / "run")) is None and not (tmp_path / "run" / ID_FILE).exists()
