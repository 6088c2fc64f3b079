"""Tests that a comparison gets a folder of its own, unless an experiment or a folder is named."""

import sys

import pytest

import run


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["do=[compare]", "runs=[a,b]"], True),
        (["do=compare", "runs=[a,b]"], True),
        (["do=[compare]", "experiment=upernet_pnx"], False),
        (["do=[compare]", "hydra.run.dir=here"], False),
        (["do=[fit,test]"], False),
        ([], False),
    ],
)
def test_a_comparison_is_written_beside_the_experiments(words, own, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    run.name_comparison_folder()
    added = sys.argv[1 + len(words) :]
    folder = "hydra.run.dir=${paths.runs}/comparisons/${now:%Y-%m-%d_%H-%M-%S}"
    assert added == ([folder] if own else [])
