"""How many folds there are, from the words of a multirun."""

import pytest

from callbacks.runs.swept_folds import folds_word
from datamodules.refusal import Refusal

WORDS = {
    "all of them": (["-m", "fold=range(5)"], "folds=5"),
    "a list": (["-m", "fold=0,1,2", "seed=1,2"], "folds=3"),
    "said": (["-m", "fold=0,2", "folds=4"], None),
    "one": (["fold=2", "folds=4"], None),
    "one of a sweep": (["-m", "fold=2", "folds=4", "seed=1,2"], None),
    "no multirun": (["fold=range(5)"], None),
    "something else": (["--multirun", "seed=1,2", "datamodule.fold_pool=train"], None),
}


@pytest.mark.parametrize("name", WORDS)
def test_how_many_folds_there_are_follows_from_the_sweep(name):
    words, wanted = WORDS[name]
    assert folds_word(words) == wanted


BAD = {
    "gaps": (["-m", "fold=0,2"], "fold=0,2 leaves open how many folds there are; add folds=5"),
    "far": (["-m", "fold=3,7"], "add folds=8"),
    "outside": (["-m", "fold=range(6)", "folds=5"], r"fold=range\(6\) asks for folds that folds=5 does not have; take fold=range\(5\)"),
    "no number": (["-m", "fold=a,b"], "fold=a,b names what is no fold"),
    "an interval": (["-m", "fold=interval(0,4)"], "is no fold"),
}


@pytest.mark.parametrize("name", BAD)
def test_folds_that_cannot_be_are_refused(name):
    words, said = BAD[name]
    with pytest.raises(Refusal, match=said):
        folds_word(words)
