"""Tests of multiruns.

A failed trial is named and the others continue; trials of several processes run once, and a dead
rank ends its run.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest

from lightning_modules.launch_environment import env_without_rank
from reporting.optuna_study import STUDY_NAME, open_storage
from tests.conftest import SMALL
from tests.integration.test_ranks import WORDS

ROOT = Path(__file__).parents[2]
ONE_EPOCH = ["trainer.max_epochs=1", "datamodule.batches_per_epoch=2", "datamodule.batch_size=2"]


def outcomes(folder) -> dict[str, dict]:
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("*/outcome.json"))
    }


@pytest.mark.slow
def test_a_study_goes_on_when_a_trial_fails_and_leaves_its_pages(export, tmp_path):
    words = [
        *SMALL,
        f"datamodule.root={export}",
        "trainer.max_epochs=1",
        "datamodule.batches_per_epoch=1",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    words += [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "module.optimizer.lr=choice(1e-3,-1.0)",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    words += [f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    command = [sys.executable, str(ROOT / "run.py"), "-m", *words]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env_without_rank(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    found = outcomes(tmp_path / "sweep")
    rates = {
        name: re.search(
            r"module.optimizer.lr=(\S+)",
            (tmp_path / f"sweep/{name}/.hydra/overrides.yaml").read_text(),
        )[1]
        for name in "01"
    }
    assert {found[name]["status"] == "failed" for name in "01" if float(rates[name]) < 0} == {
        True
    }, done.stdout + done.stderr
    assert {found[name]["score"] is not None for name in "01" if float(rates[name]) > 0} == {True}
    failed = sum(float(rate) < 0 for rate in rates.values())
    assert (
        done.returncode == 1
        and failed == 1
        and "1 trial failed" in done.stderr
        and "module.optimizer.lr=-1.0 is not allowed" in done.stderr
    )
    study = optuna.load_study(study_name=STUDY_NAME, storage=open_storage(tmp_path / "sweep"))
    assert [trial.state.name for trial in study.trials] == [
        "FAIL" if float(rates[name]) < 0 else "COMPLETE" for name in "01"
    ]
    assert all(
        len(trial.intermediate_values) == 1
        for trial in study.trials
        if trial.state.name == "COMPLETE"
    )  # pruning has reported
    assert (
        len(pd.read_csv(tmp_path / "sweep/trials.csv")) == 2
        and (tmp_path / "sweep/sweep.html").is_file()
    )


@pytest.mark.slow
def test_trials_of_two_processes_run_once_each(tmp_path):
    words = [
        "experiment=upernet_pnx",
        "scale=demo",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "module.optimizer.lr=1e-4,3e-4",
    ]
    words += [
        "datamodule.phantom.images=90",
        "datamodule.phantom.size=64",
        "image_size=64",
        "evaluation_size=64",
    ]
    words += [
        "trainer.max_epochs=1",
        "datamodule.batches_per_epoch=2",
        "trainer.enable_progress_bar=false",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    environment = env_without_rank() | {"OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        "-m",
        *words,
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reports = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("report.json"))
    assert [str(path) for path in reports] == ["sweep/0/report.json", "sweep/1/report.json"]
    found = [json.loads((tmp_path / path).read_text()) for path in reports]
    assert [report["config"]["module"]["optimizer"]["lr"] for report in found] == [1e-4, 3e-4]
    assert [
        (report["devices"]["processes"], report["devices"]["strategy"]) for report in found
    ] == [(2, "DDP")] * 2
    assert done.stdout.count("what this run does") == 2 and done.stdout.count("page:") == 2
    assert {name: found["status"] for name, found in outcomes(tmp_path / "sweep").items()} == {
        "0": "finished",
        "1": "finished",
    }


DYING = """
import os, sys
sys.path.insert(0, {root!r})
import run
from lightning_modules.base import SupervisedModule
own = SupervisedModule.training_step
def step(self, batch, batch_idx):
    if os.environ.get("LOCAL_RANK") == "1" and batch_idx == 1:
        raise ValueError("the second rank dies here")
    return own(self, batch, batch_idx)
SupervisedModule.training_step = step
run.main()
"""


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_within_a_minute_and_says_why(thorax, tmp_path):
    script = tmp_path / "dying.py"
    script.write_text(DYING.format(root=str(ROOT)))
    words = [
        *WORDS,
        *ONE_EPOCH,
        "datamodule.batches_per_epoch=4",
        f"datamodule.root={thorax}",
        "trainer.devices=2",
    ]
    words += [f"paths.cache={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}"]
    log = (tmp_path / "log").open("w+")
    environment = env_without_rank() | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, str(script), *words], cwd=tmp_path, env=environment, stdout=log, stderr=log
    )
    deadline = time.monotonic() + 300
    while (
        "the second rank dies here" not in Path(log.name).read_text()
        and time.monotonic() < deadline
        and run.poll() is None
    ):
        time.sleep(0.2)
    assert run.wait(60) != 0
    said = Path(log.name).read_text()
    assert said.index("ValueError: the second rank dies here") < (
        said + "Connection closed by peer"
    ).index("Connection closed by peer")
    own_group = [
        line for line in os.popen("ps ax -o args").read().splitlines() if str(script) in line
    ]
    assert own_group == []
    assert not (tmp_path / "run/report.json").exists()


@pytest.mark.parametrize(
    "started_by",
    [
        {"TORCHELASTIC_RUN_ID": "1", "RANK": "0"},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"},
    ],
)
def test_a_sweep_inside_torchrun_or_srun_is_refused(started_by, cli, export, tmp_path, monkeypatch):
    for name, value in started_by.items():
        monkeypatch.setenv(name, value)
    code, said = cli(
        "-m",
        *SMALL,
        f"datamodule.root={export}",
        "seed=0,1",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert code == 2 and "hydra/launcher=slurm" in said and not list(tmp_path.rglob("checkpoints"))
