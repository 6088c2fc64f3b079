"""Tests of trials in separate processes, with a Hydra application that trains nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reporting.outcome import read_outcome

ROOT = Path(__file__).parents[4]
CONF = """
defaults: [_self_, {override hydra/launcher: processes}]
end: well
seconds: 0.0
trainer: {devices: 1, num_nodes: 1, accelerator: auto}
hydra:
  searchpath: ["file://ROOT/conf"]
  launcher: {preload: []}
  sweep: {dir: sweep, subdir: "${hydra:job.num}"}
"""
APPLICATION = """
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import hydra
from hydra.core.hydra_config import HydraConfig
from reporting.outcome import STOPPED, Outcome, write_outcome

def job(cfg):
    folder, asked = Path(HydraConfig.get().runtime.output_dir), []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    (folder / "seen.json").write_text(json.dumps([os.getpid(), \
os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules]))
    print("trial at work", flush=True)
    if cfg.end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    until = time.monotonic() + cfg.seconds
    while time.monotonic() < until and not asked:
        time.sleep(0.02)
    if asked and cfg.end == "badly":
        write_outcome(
            folder, Outcome(status="failed", failure="its processes were killed by SIGTERM")
        )
    elif asked:
        (folder / "saved").touch()
        sys.exit(STOPPED)
    else:
        write_outcome(folder, Outcome(status="finished", score=0.5))

if __name__ == "__main__":
    hydra.main(config_path={conf!r}, config_name="toy")(job)()
    print("heavy:", [name for name in ("torch", "lightning", "pandas", "matplotlib") \
if name in sys.modules])
"""


@pytest.fixture
def application(tmp_path):
    """The command line of the application, with a sweep of `end` or whatever the words say."""
    (tmp_path / "toy.yaml").write_text(CONF.replace("ROOT", str(ROOT)))
    script = tmp_path / "app.py"
    script.write_text(APPLICATION.format(root=str(ROOT), conf=str(tmp_path)))
    return lambda *words: [sys.executable, str(script), "-m", *words]


def carried_out(command, tmp_path, **environment):
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done, {
        path.parent.name: json.loads(path.read_text())
        for path in tmp_path.glob("sweep/*/outcome.json")
    }


def seen(tmp_path) -> dict[str, list]:
    return {
        path.parent.name: json.loads(path.read_text())
        for path in tmp_path.glob("sweep/*/seen.json")
    }


def test_each_trial_has_its_own_process_and_one_that_dies_is_named(application, tmp_path):
    done, found = carried_out(
        application("end=well,killed,better"), tmp_path, CUDA_VISIBLE_DEVICES=""
    )
    assert done.returncode == 0 and "heavy: []" in done.stdout, done.stderr
    assert [found[name]["status"] for name in "012"] == ["finished", "failed", "finished"]
    assert "SIGKILL" in found["1"]["failure"] and "memory" in found["1"]["failure"]
    pids = [pid for pid, _, _ in seen(tmp_path).values()]
    assert (
        len(set(pids)) == 3
        and "trial 0: end=well" in done.stdout
        and "trial 2 finished: 0.5000" in done.stdout
    )
    assert (
        "trial 1 failed: its process was killed by SIGKILL" in done.stderr
        and done.stdout.count("trial at work") == 3
    )


def test_several_gpus_have_a_trial_each_and_each_trial_its_own_log(application, tmp_path):
    done, found = carried_out(
        application("seconds=0.0,0.01,0.02"), tmp_path, CUDA_VISIBLE_DEVICES="3,GPU-5"
    )
    assert done.returncode == 0 and len(found) == 3 and "trial at work" not in done.stdout
    assert {gpu for _, gpu, _ in seen(tmp_path).values()} == {"3", "GPU-5"}
    assert all(
        (tmp_path / f"sweep/{name}/console.log").read_text() == "trial at work\n" for name in found
    )


def wait_for(path: Path, others=()):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), others


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_the_trial_save_and_says_how_to_go_on(application, tmp_path, number):
    process = subprocess.Popen(
        application("seconds=60,61"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "sweep/0/seen.json")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "hydra.sweep.dir=" in said and "resume=auto" in said
    assert (
        (tmp_path / "sweep/0/saved").exists()
        and read_outcome(tmp_path / "sweep/0").status == "interrupted"
        and not (tmp_path / "sweep/1").exists()
    )


def test_a_trial_that_fails_because_it_is_stopped_can_go_on(application, tmp_path):
    process = subprocess.Popen(
        application("seconds=60,61", "end=badly"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "sweep/0/seen.json")
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "failed" not in said
        and read_outcome(tmp_path / "sweep/0").status == "interrupted"
    )


def test_a_trial_whose_sweep_is_killed_saves_and_ends(application, tmp_path):
    process = subprocess.Popen(
        application("seconds=60"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(tmp_path / "sweep/0/seen.json")
    process.kill()
    process.wait()
    wait_for(tmp_path / "sweep/0/saved")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["hydra.launcher.n_jobs=0"], "n_jobs=0"),
        (["hydra.launcher.n_jobs=2", "trainer.devices=2"], "would share devices"),
    ],
)
def test_numbers_of_trials_that_cannot_be_are_refused(application, tmp_path, words, wrong):
    done, found = carried_out(application("end=well", *words), tmp_path)
    assert (
        done.returncode != 0
        and not found
        and re.search(rf"(User|Argument)Error: .*{wrong}", done.stderr)
    )
