"""Tests of what a multirun refuses or warns of before its first trial."""

import sys
import warnings

import pytest
from omegaconf import OmegaConf

import run
from datamodules.errors import UserError
from engine.sweeps.hydra_callback import _check_folds, _splits_follow_seeds


def config(overrides, folds=0, split="group"):
    return OmegaConf.create(
        {
            "folds": folds,
            "datamodule": {"split": split},
            "hydra": {"overrides": {"task": overrides}},
        }
    )


@pytest.mark.parametrize(
    ("overrides", "folds", "refused"),
    [
        (["fold=range(5)"], 0, True),
        (["fold=0,1", "experiment=unetpp_brain_tumor"], 0, True),
        (["fold=range(5)", "folds=5"], 0, False),
        (["fold=range(5)", "experiment=preclassify_pnx"], 5, False),
        (["fold=range(5)", "experiment=preclassify_pnx,demo"], 0, False),
        (["seed=1,2"], 0, False),
    ],
)
def test_a_sweep_over_folds_needs_their_number(overrides, folds, refused):
    if refused:
        with pytest.raises(UserError, match=r"needs the number of folds; add folds=5"):
            _check_folds(config(overrides, folds))
    else:
        _check_folds(config(overrides, folds))


SPLITS = {
    "seeds alone": (["seed=1,2,3"], "group", True),
    "a range of seeds": (["seed=range(3)"], "group", True),
    "folds too": (["seed=1,2", "folds=5", "fold=range(5)"], "group", True),
    "the data's own split": (["seed=1,2", "folds=5", "fold=range(5)"], "folders", False),
    "a split that is swept": (["seed=1,2", "datamodule.split=group,folders"], "folders", True),
    "one split": (["seed=1,2", "datamodule.seed=0"], "group", False),
    "one seed": (["seed=1", "module.optimizer.lr=1,2"], "group", False),
}


@pytest.mark.parametrize("name", SPLITS)
def test_seeds_that_also_split_the_data_are_warned_of(name):
    overrides, split, expected = SPLITS[name]
    assert _splits_follow_seeds(config(overrides, split=split)) is expected


def test_data_of_the_users_own_may_have_no_split():
    own = config(["seed=1,2"], split="folders")
    own.datamodule._target_ = "datamodules.OwnDataModule"
    assert _splits_follow_seeds(own)


def test_a_run_folder_that_cannot_be_made_is_one_sentence(monkeypatch, capfd):
    words = ["experiment=unetpp_brain_tumor", "paths.runs=/dev/null"]
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with warnings.catch_warnings(record=True) as warned:  # Hydra's about its callbacks
        warnings.simplefilter("always")
        with pytest.raises(SystemExit, match="2"):
            run.main()
    said = capfd.readouterr().err
    assert said.startswith("/dev/null/unetpp_brain_tumor, the folder of the run, cannot be created")
    assert said.count("\n") == 1 and not warned
