"""Tests of the words of the command line: paths of any name, and what a paste adds to a word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from datamodules.errors import UserError
from engine.overrides import prepare_overrides

ROOT = Path(__file__).parents[3]


def read(word):
    """Return key and value of a word as Hydra reads it."""
    (prepared,) = prepare_overrides([word])
    override = OverridesParser.create().parse_override(prepared)
    return override.key_or_group, override.value()


@pytest.mark.parametrize("name", ["tumör", "archive (1)", "a=b", "[x]", "a#b", "a,b", "{x}", "1e5"])
def test_an_existing_path_is_taken_as_it_is(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    assert read(f"datamodule.root={folder}") == ("datamodule.root", str(folder))
    monkeypatch.chdir(tmp_path)
    assert read(f"ckpt_path={name}") == ("ckpt_path", name)


def test_a_path_below_the_home_folder_and_one_that_is_not_there_reach_the_check_of_paths():
    assert read("datamodule.root=~/x y") == ("datamodule.root", "~/x y")
    assert read("ckpt_path=/nowhere/tumör") == ("ckpt_path", "/nowhere/tumör")
    assert read("ckpt_path=123") == ("ckpt_path", "123")


def test_a_folder_that_is_called_like_a_value_changes_no_other_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("3", "[fit,test]", "null"):
        (tmp_path / name).mkdir()
    words = ["seed=3", "do=[fit,test]", "datamodule.eval_batch_size=null", "-m", "seed=1,2"]
    assert prepare_overrides(words) == words


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("“seed=3”", "“seed=3” has typographic quotes; write seed=3"),
        ("title=“a b”", 'title=“a b” has typographic quotes; write title="a b"'),
        ("seed=3\r", "seed=3 ends with a carriage return"),
        ("--seed=3", "--seed=3 is not an option; write an override without dashes: seed=3"),
        ("seed= 3", "seed= 3 has blanks around =; write seed=3"),
        ("seed =3", "seed =3 has blanks around =; write seed=3"),
        ("seed", "seed is no override; write KEY=VALUE"),
        ("paths.runs=null", "paths.runs=null is not allowed; it must be the path of a folder"),
        ("hydra.run.dir=[a]", "hydra.run.dir=[a] is not allowed"),
        ("paths.runs={a:1}", "paths.runs={a:1} is not allowed"),
        ("seed=choice(null,4)", "accept no null; write only the values, seed=null,..."),
        ("monitor.name=a#b", "as plain text it is written 'monitor.name=\"a#b\"'"),
    ],
)
def test_a_word_that_is_no_override_is_refused_with_the_right_one(word, sentence):
    with pytest.raises(UserError) as refused:
        prepare_overrides([word])
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_options_of_hydra_and_their_values_are_left_alone():
    words = ["--cfg", "job", "-p", "datamodule", "--multirun", "-c", "hydra", "~callbacks.report"]
    assert prepare_overrides(words) == words


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["experiment=unetpp_brain_tumour"], "did you mean unetpp_brain_tumor?"),
        (["scale=huge"], "scale=huge is not there; take one of demo, full"),
        (["do=test,fit"], "write do=[test,fit] for a list, or add -m for a sweep"),
        (["+seed=3"], "seed exists already; write seed=... without +"),
        (["datamodule.root=null"], "datamodule.root=null is not allowed"),
        (["module.classes=[1,2]"], "module.classes=[1,2] is not allowed; it must be a list"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_hydra_says_of_an_override_becomes_a_sentence(overrides, sentence, encoding, tmp_path):
    done = subprocess.run(
        [sys.executable, "run.py", f"hydra.run.dir={tmp_path}/tumör", *overrides],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    said = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 2 and sentence in said and "Traceback" not in said, said


def test_a_file_of_weights_below_the_home_folder_is_no_grammar():
    (word,) = prepare_overrides(["module.net.encoder.weights=~/none.pth"])
    assert OverridesParser.create().parse_override(word).value() == "~/none.pth"
