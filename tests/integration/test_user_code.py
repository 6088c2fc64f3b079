"""Tests of conf files and modules that stand in a user's own folder, outside the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from lightning_modules.launch_environment import env_without_rank
from tests.conftest import CALLBACKS, refused

ROOT = Path(__file__).parents[2]
NET = '''
from torch import nn


class Net(nn.Module):
    """Two convolutions."""

    def __init__(self, width=4, classes=1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )

    def forward(self, x):
        return self.layers(x)
'''
EXPERIMENT = """# @package _global_
# A network of my own.
defaults:
  - /experiment/unetpp_brain_tumor@_global_
  - override /module/net: mine
  - _self_
code: [my_net]
image_size: 64
evaluation_size: 64
datamodule: {batch_size: 4, batches_per_epoch: 2}
trainer: {max_epochs: 1}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's folder with an experiment, a network's conf and its code; the working folder."""
    folder = tmp_path / "project"
    for name, text in {
        "conf/experiment/mine.yaml": EXPERIMENT,
        "conf/module/net/mine.yaml": "_target_: my_net.Net\nwidth: 4\nclasses: 1\n",
        "conf/hparams_search/mine.yaml": "# @package _global_\n"
        "defaults: [override /hydra/sweeper: optuna]\n"
        "hydra: {sweeper: {n_trials: 2, params: {module.net.width: 'choice(2,3)'}}}\n",
        "my_net.py": NET,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop("my_net", None)


def run_outside(project: Path, *words: str) -> tuple[int, str]:
    """Call run.py in the user's folder; return the exit code and the printed output."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=project,
        env=env_without_rank() | {"MEDICAL_CACHE": str(project.parent / "cache")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout + done.stderr


WORDS = [
    "experiment=mine",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    CALLBACKS,
]


@pytest.mark.slow
def test_own_network_is_trained_in_own_folder_and_tested_from_its_checkpoint(project, export):
    words = [*WORDS, f"datamodule.root={export}"]
    code, said = run_outside(project, *words, "hydra.run.dir=runs/a")
    assert code == 0, said
    state = torch.load(project / "runs/a/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert state["net.layers.0.weight"].shape == (4, 1, 3, 3)
    table = pd.read_csv(project / "runs/a/metrics.csv")

    again = [*words, "do=[test]", "ckpt_path=runs/a"]
    code, said = run_outside(project, *again, "code=[]", "hydra.run.dir=runs/without")
    assert code == 2 and said.strip().count("\n") == 0
    assert "module.net._target_=my_net.Net is in no package" in said and "code=[my_net]" in said
    code, said = run_outside(project, *again, "hydra.run.dir=runs/b")
    assert code == 0, said
    tested = pd.read_csv(project / "runs/b/metrics.csv")
    assert tested["test/dice"].dropna().iloc[0] == table["test/dice"].dropna().iloc[0]

    elsewhere = project.parent / "elsewhere"  # from where conf/ and the code must be named
    elsewhere.mkdir()
    code, said = run_outside(
        elsewhere,
        *again[:-1],
        f"ckpt_path={project / 'runs/a'}",
        f"hydra.searchpath=[file://{project / 'conf'}]",
        "hydra.run.dir=runs/c",
    )
    assert code == 0, said
    tested = pd.read_csv(elsewhere / "runs/c/metrics.csv")
    assert tested["test/dice"].dropna().iloc[0] == table["test/dice"].dropna().iloc[0]


@pytest.mark.slow
def test_trials_of_own_space_find_own_code_in_their_processes(project, export):
    code, said = run_outside(
        project,
        "-m",
        *WORDS,
        "hparams_search=mine",
        f"datamodule.root={export}",
        "do=[fit]",
        "hydra.sweep.dir=runs/sweep",
    )
    assert code == 0, said
    for trial in "01":
        words = yaml.safe_load((project / f"runs/sweep/{trial}/.hydra/overrides.yaml").read_text())
        width = next(int(word[17:]) for word in words if word.startswith("module.net.width="))
        checkpoint = project / f"runs/sweep/{trial}/checkpoints/best.ckpt"
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert len(state["net.layers.0.weight"]) == width


@pytest.mark.slow
def test_own_experiment_runs_from_python(project, export):
    words = [*WORDS[1:], f"datamodule.root={export}", "do=[fit]", "trainer.fast_dev_run=true"]
    asks = f"import engine; print(engine.run('mine', {words!r}).config['module']['net'])"
    done = subprocess.run(
        [sys.executable, "-c", asks],
        cwd=project,
        env=env_without_rank() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("{'_target_': 'my_net.Net', 'width': 4, 'classes': 1}")


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (["code=[]"], "module.net._target_=my_net.Net is in no package", "add code=[my_net]"),
        (["code=[my_nett]"], "has no my_nett.py", "start in the folder that has it"),
        (["code=[os]"], "os is a module of Python", "code=[my_net]"),
        (["code=[torch.nn]"], "torch is a package of this repository or one", "rename yours"),
        (["code=[callbacks]"], "callbacks is a package of this repository", "rename yours"),
        (["code=[my_net.py]"], "code=[my_net.py] is no name", "code=[my_net] stands for my_net.py"),
        (["code=[../x]"], "is no name of a module", "code=[my_net] stands for my_net.py"),
        (["code=[yaml]"], "has the name of", "rename it"),
        (["module.net._target_=my_net.Nett"], "my_net.Nett does not exist", "my_net.Net?"),
        (["module.net._target_=os.system"], "os.system is in no package", "code="),
        (["module.net.widht=3"], "module.net.widht is not a key", "module.net.width?"),
        (
            ["module/net=unet", "module.net._target_=my_net.Net"],
            "is no argument of my_net.Net",
            "~module.net.",
        ),
        (["experiment=mien"], "experiment=mien is not there", "mine?"),
        (["module/net=mien"], "module/net=mien is not there", "mine?"),
        (["hparams_search=mine"], "hparams_search=mine is searched by several", "add -m"),
    ],
)
def test_what_may_not_be_named_is_refused(words, wrong, mend, project, export, cli, steps):
    (project / "yaml.py").write_text("")  # hides nothing: the installed one is found first
    code, said = cli(*WORDS, f"datamodule.root={export}", *words)
    refused(code, said, steps, wrong, mend)


def test_an_own_file_is_taken_before_the_repositorys_and_that_is_printed(project):
    (project / "conf/trainer").mkdir()
    text = (ROOT / "conf/trainer/auto.yaml").read_text().replace("max_epochs: 100", "max_epochs: 7")
    (project / "conf/trainer/auto.yaml").write_text(text)
    code, said = run_outside(project, "experiment=unetpp_brain_tumor", "--cfg", "job")
    assert code == 0 and "max_epochs: 7" in said
    assert f"conf/trainer/auto.yaml of {project} is taken instead of the repository's" in said
    (project / "conf/run.yaml").write_text("{}")
    code, said = run_outside(project, "experiment=demo", "--cfg", "job")
    assert code == 2 and said.strip().count("\n") == 0
    assert "run.yaml would replace the defaults of all experiments" in said


def test_the_help_page_lists_own_experiments(project):
    code, said = run_outside(project, "--help")
    assert code == 0
    assert f"experiments of your own, in {project / 'conf'}:" in said
    assert "  mine                    A network of my own." in said
    code, said = run_outside(ROOT, "--help")
    assert code == 0 and "of your own" not in said


def test_own_code_that_cannot_be_read_is_named(project, export, cli, steps):
    (project / "my_net.py").write_text("class Net(:\n")
    code, said = cli(*WORDS, f"datamodule.root={export}")
    refused(
        code, said, steps, f"{os.fspath(project)}/my_net.py, line 1", "cannot be read as Python"
    )
