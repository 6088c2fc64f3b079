"""Multiruns: a trial that fails is named and the others go on; trials of several processes run each once, a rank that dies ends its run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callbacks.runs.launched import cleaned_environment
from tests.conftest import SMALL
from tests.test_ranks import WORDS

ROOT = Path(__file__).parents[1]
ONE_EPOCH = ["trainer.max_epochs=1", "datamodule.batches_per_epoch=2", "datamodule.batch_size=2"]


def outcomes(folder) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/outcome.json"))}


def test_a_trial_that_fails_is_named_and_the_others_go_on(cli, export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", "trainer.max_epochs=1", "datamodule.batches_per_epoch=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    code, said = cli("-m", *words, "module.optimizer.lr=1e-3,-1.0,2e-3")
    found = outcomes(tmp_path / "sweep")
    assert code == 1 and [found[name]["status"] for name in "012"] == ["finished", "failed", "finished"]
    assert "Invalid learning rate: -1.0" in found["1"]["failure"] and "1 trials failed" in said and "Invalid learning rate: -1.0" in said
    assert all(isinstance(found[name]["score"], float) for name in "02")
    assert len((tmp_path / "sweep/trials.csv").read_text().splitlines()) == 3


def test_trials_of_two_processes_run_once_each(tmp_path):
    words = ["experiment=upernet_pnx", "scale=demo", "trainer.devices=2", "trainer.accelerator=cpu", "module.optimizer.lr=1e-4,3e-4"]
    words += ["datamodule.phantom.images=90", "datamodule.phantom.size=64", "image_size=64", "evaluation_size=64"]
    words += ["trainer.max_epochs=1", "datamodule.batches_per_epoch=2", "trainer.enable_progress_bar=false", f"paths.cache={tmp_path / 'cache'}"]
    environment = cleaned_environment() | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "run.py"), "-m", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}", f"paths.runs={tmp_path / 'runs'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("report.json"))
    assert [str(path) for path in reports] == ["sweep/0/report.json", "sweep/1/report.json"]
    found = [json.loads((tmp_path / path).read_text()) for path in reports]
    assert [report["config"]["module"]["optimizer"]["lr"] for report in found] == [1e-4, 3e-4]
    assert [(report["devices"]["processes"], report["devices"]["strategy"]) for report in found] == [(2, "DDP")] * 2
    assert done.stdout.count("what each epoch draws") == 2 and done.stdout.count("page:") == 2
    assert {name: found["status"] for name, found in outcomes(tmp_path / "sweep").items()} == {"0": "finished", "1": "finished"}


DYING = '''
import os, sys
sys.path.insert(0, {root!r})
import run
from lightning_modules.supervised import SupervisedModule
own = SupervisedModule.training_step
def step(self, batch, batch_idx):
    if os.environ.get("LOCAL_RANK") == "1" and batch_idx == 1:
        raise ValueError("the second rank dies here")
    return own(self, batch, batch_idx)
SupervisedModule.training_step = step
run.main()
'''


def test_a_rank_that_dies_ends_the_others_within_a_minute_and_says_why(thorax, tmp_path):
    script = tmp_path / "dying.py"
    script.write_text(DYING.format(root=str(ROOT)))
    words = [*WORDS, *ONE_EPOCH, "datamodule.batches_per_epoch=4", f"datamodule.root={thorax}", "trainer.devices=2"]
    words += [f"paths.cache={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}"]
    log = (tmp_path / "log").open("w+")
    environment = cleaned_environment() | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, str(script), *words], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 300
    while "the second rank dies here" not in Path(log.name).read_text() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.2)
    assert run.wait(60) != 0
    said = Path(log.name).read_text()
    assert said.index("ValueError: the second rank dies here") < (said + "Connection closed by peer").index("Connection closed by peer")
    own_group = [line for line in os.popen("ps ax -o args").read().splitlines() if str(script) in line]
    assert own_group == []
    assert not (tmp_path / "run/report.json").exists()


@pytest.mark.parametrize("started_by", [{"TORCHELASTIC_RUN_ID": "1", "RANK": "0"}, {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}])
def test_a_sweep_inside_torchrun_or_srun_is_refused(started_by, cli, export, tmp_path, monkeypatch):
    for name, value in started_by.items():
        monkeypatch.setenv(name, value)
    code, said = cli("-m", *SMALL, f"datamodule.root={export}", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert code == 2 and "hydra/launcher=slurm" in said and not list(tmp_path.rglob("checkpoints"))
