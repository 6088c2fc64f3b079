"""Tests of the number of folds, read from the overrides of a multirun."""

import pytest

from datamodules.errors import UserError
from engine.fold_overrides import infer_n_folds, warn_split_changes
from run import CONF

WORDS = {
    "all of them": (["-m", "fold=range(5)"], "folds=5"),
    "a list": (["-m", "fold=0,1,2", "seed=1,2"], "folds=3"),
    "said": (["-m", "fold=0,2", "folds=4"], None),
    "one": (["fold=2", "folds=4"], None),
    "one of a sweep": (["-m", "fold=2", "folds=4", "seed=1,2"], None),
    "the experiment's": (["-m", "experiment=preclassify_pnx", "fold=0,1,2"], None),
    "some of the experiment's": (["-m", "experiment=preclassify_pnx", "fold=1,2"], None),
    "the demo's": (["-m", "experiment=preclassify_pnx", "scale=demo", "fold=1,0"], None),
    "an experiment without": (["-m", "experiment=lora_pneumonia", "fold=0,1,2"], "folds=3"),
    "no multirun": (["fold=range(5)"], None),
    "something else": (["--multirun", "seed=1,2", "datamodule.fold_pool=train"], None),
}


@pytest.mark.parametrize("name", WORDS)
def test_how_many_folds_there_are_follows_from_the_sweep(name):
    words, wanted = WORDS[name]
    assert infer_n_folds(words, CONF) == wanted


BAD = {
    "gaps": (["-m", "fold=0,2"], "fold=0,2 leaves open how many folds there are; add folds=5"),
    "far": (["-m", "fold=3,7"], "add folds=8"),
    "outside": (
        ["-m", "fold=range(6)", "folds=5"],
        r"fold=range\(6\) asks for folds that folds=5 does not have; take 'fold=range\(5\)'",
    ),
    "outside the experiment's": (
        ["-m", "experiment=preclassify_pnx", "fold=4,5"],
        r"folds=5 of preclassify_pnx .* take 'fold=range\(5\)'",
    ),
    "of one experiment": (
        ["-m", "experiment=preclassify_pnx,curriculum_pnx", "fold=0,1"],
        "no folds for curriculum_pnx.*add folds=5",
    ),
    "outside the demo's": (
        ["-m", "experiment=preclassify_pnx", "scale=demo", "fold=range(5)"],
        "folds=2 of preclassify_pnx does not have",
    ),
    "no number": (["-m", "fold=a,b"], "fold=a,b names what is no fold"),
    "an interval": (["-m", "fold=interval(0,4)"], "is no fold"),
}


@pytest.mark.parametrize("name", BAD)
def test_folds_that_cannot_be_are_refused(name):
    words, said = BAD[name]
    with pytest.raises(UserError, match=said):
        infer_n_folds(words, CONF)


SPLITS = {
    "seeds alone": (["seed=1,2,3"], "group", True),
    "folds too": (["seed=1,2", "fold=range(5)"], "group", True),
    "the data's own split": (["seed=1,2", "fold=range(5)"], "folders", False),
    "a split that is swept": (["seed=1,2", "datamodule.split=group,folders"], "folders", True),
    "one split": (["seed=1,2", "datamodule.seed=0"], "group", False),
    "one seed": (["seed=1", "module.optimizer.lr=1,2"], "group", False),
}


@pytest.mark.parametrize("name", SPLITS)
def test_seeds_that_also_split_are_told_before_the_first_trial(name):
    words, split, told = SPLITS[name]
    said = warn_split_changes(words, split)
    assert (said is not None) is told and (not told or "datamodule.seed=0" in said)
