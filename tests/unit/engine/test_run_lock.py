"""Tests of run folders: names are claimed, folders in use are refused and crashes leave no lock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from engine.run_lock import (
    FolderInUse,
    claim_folder,
    folder_lock,
    is_in_use,
    lock_folder,
    unlock_folder,
)
from lightning_modules.launch_environment import env_without_rank

ROOT = Path(__file__).parents[3]
HOLD = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from engine.run_lock import lock_folder
lock_folder(Path({folder!r}), {overrides!r})
{more}
print("held", flush=True)
time.sleep({seconds})
"""
FORK = """
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print("child", child, flush=True)
"""


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a process that holds a folder; its output has begun when it does."""
    started: list[subprocess.Popen] = []

    def start(
        folder: Path, overrides: list[str], seconds: float = 60, more: str = ""
    ) -> subprocess.Popen:
        script = HOLD.format(
            root=str(ROOT), folder=str(folder), overrides=overrides, more=more, seconds=seconds
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env=env_without_rank(),
        )
        started.append(process)
        while "held" not in (line := process.stdout.readline()):
            process.said = line  # type: ignore[attr-defined]
            assert line, "the process ended"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_name_is_given_once_however_many_ask_for_it(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: claim_folder(tmp_path / "runs" / "now"), range(40)))
    assert len(set(found)) == 40 and all(path.is_dir() for path in found)
    assert {path.name for path in found} == {"now", *(f"now-{number}" for number in range(2, 41))}


def test_a_folder_in_use_is_refused_and_its_process_named(holder, tmp_path):
    process = holder(tmp_path / "run", ["seed=1"])
    with pytest.raises(
        FolderInUse,
        match=(
            rf"dir={tmp_path}/run is in use by another run \(process {process.pid} on .*\); .*name"
            r" another"
        ),
    ):
        lock_folder(tmp_path / "run", ["seed=2"])
    with pytest.raises(FolderInUse):  # the same words, but nobody said that it is the same trial
        lock_folder(tmp_path / "run", ["seed=1"])
    with pytest.raises(FolderInUse):
        lock_folder(tmp_path / "run", ["seed=2"], wait_for_own=True)
    assert is_in_use(tmp_path / "run")["overrides"] == ["seed=1"]


def test_one_folder_has_one_lock_however_it_is_written(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with (
        folder_lock(tmp_path / "run", []),
        folder_lock(tmp_path / "x" / ".." / "run", []),
        folder_lock(tmp_path / "link" / "run", []),
    ):
        assert is_in_use(tmp_path / "x" / ".." / "run") is None  # held by this process
    assert not (tmp_path / "run" / ".run.json").exists()


def test_the_same_trial_of_a_killed_sweep_is_waited_for(holder, tmp_path):
    holder(tmp_path / "run", ["seed=1"], seconds=2)
    began = time.monotonic()
    assert (
        lock_folder(tmp_path / "run", ["seed=1"], wait_for_own=True)
        and time.monotonic() - began > 0.5
    )
    assert lock_folder(tmp_path / "run", ["seed=1"])  # it is held already, and had to be waited for
    unlock_folder(tmp_path / "run")
    assert not lock_folder(tmp_path / "run", ["seed=1"])
    unlock_folder(tmp_path / "run")


def test_the_lock_is_gone_with_its_process_even_where_a_forked_child_lives_on(holder, tmp_path):
    process = holder(tmp_path / "run", [], more=FORK)
    child = int(process.said.split()[1])  # type: ignore[attr-defined]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        for _ in range(
            100
        ):  # the child lets go of the lock in its first moments, which may not be over yet
            if is_in_use(tmp_path / "run") is None:
                break
            time.sleep(0.1)
        os.kill(child, 0)  # the child is there
        assert not lock_folder(tmp_path / "run", [])
    finally:
        os.kill(child, signal.SIGKILL)
        unlock_folder(tmp_path / "run")


def test_a_lock_within_a_lock_ends_with_the_outer_one(tmp_path, holder):
    with folder_lock(tmp_path / "run", []):
        with folder_lock(tmp_path / "run", []):
            pass
        probe = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; from"
            " engine.run_lock import is_in_use; "
        )
        probe += f"print(is_in_use(Path({str(tmp_path / 'run')!r})) is not None)"
        assert (
            subprocess.run(
                [sys.executable, "-c", probe], capture_output=True, text=True
            ).stdout.strip()
            == "True"
        )
    holder(tmp_path / "run", [], seconds=0)


def _run(*words: str, folder: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        *words,
        f"paths.runs={folder / 'runs'}",
        f"paths.cache={folder / 'cache'}",
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env_without_rank(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _taken(folder: Path) -> set[Path]:
    """The names that the clock gives in the next two minutes, taken already."""
    names = {
        folder / f"{datetime.now() + timedelta(seconds=second):%Y-%m-%d_%H-%M-%S}"
        for second in range(-2, 120)
    }
    for name in names:
        name.mkdir(parents=True)
    return names


@pytest.mark.slow
def test_a_run_and_a_sweep_take_other_names_where_theirs_are_taken(export, tmp_path):
    taken = _taken(tmp_path / "runs" / "demo")
    words = ("experiment=demo", "do=[inspect]", f"datamodule.root={export}")
    words += ("datamodule.phantom=null",)
    run, sweep = (
        _run(*words, folder=tmp_path),
        _run("-m", *words, "seed=1,2", "hydra/launcher=basic", folder=tmp_path),
    )
    said = [process.communicate(timeout=300)[0] for process in (run, sweep)]
    assert (run.returncode, sweep.returncode) == (0, 0), said
    assert not any(
        any(name.iterdir()) for name in taken
    )  # nothing was written into a folder that was there
    new = sorted(path for path in (tmp_path / "runs" / "demo").iterdir() if path not in taken)
    assert len(new) == 2 and all(path.name.endswith(("-2", "-3")) for path in new)
    assert sorted((path / "0").is_dir() for path in new) == [False, True]


def test_a_second_run_in_a_named_folder_is_refused_and_changes_nothing(
    cli, steps, holder, export, tmp_path
):
    folder = tmp_path / "named"
    process = holder(folder, ["seed=7"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, said = cli(
        "experiment=unetpp_brain_tumor", "image_size=64", f"datamodule.root={export}", folder=folder
    )
    assert (
        code == 2
        and not steps
        and f"hydra.run.dir={folder} is in use by another run (process {process.pid} on " in said
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_trial_believes_an_outcome_of_its_own_overrides_alone(holder, export, tmp_path):
    """A sweep is refused if another trial runs in the folder, and awaits its own orphaned trial.

    The outcome of the trial that a killed sweep had started is taken over.
    """
    words = ["experiment=demo", "do=[inspect]", f"datamodule.root={export}"]
    words += ["datamodule.phantom=null", "seed=3"]
    sweep = tmp_path / "sweep"
    process = holder(sweep / "0", ["seed=4"])
    (sweep / "0" / "outcome.json").write_text(
        json.dumps({"status": "finished", "score": 0.9, "failure": None, "overrides": ["seed=4"]})
    )
    before = {path.name: path.read_bytes() for path in (sweep / "0").iterdir()}
    refused = _run("-m", *words, f"hydra.sweep.dir={sweep}", folder=tmp_path)
    said = refused.communicate(timeout=300)[0]
    assert (
        refused.returncode == 2 and "in use by another run" in said and "Traceback" not in said
    ), said
    assert {path.name: path.read_bytes() for path in (sweep / "0").iterdir()} == before
    process.kill()
    process.wait()
    own = [*words, f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]
    ending = f"""
print("held", flush=True)
while not Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.1)
import json
found = dict(status="finished", score=0.25, failure=None, overrides={own!r})
Path({str(sweep / "0" / "outcome.json")!r}).write_text(json.dumps(found))
os._exit(0)
"""
    holder(sweep / "0", own, more=ending)
    lines = []
    with _run("-m", *words, f"hydra.sweep.dir={sweep}", folder=tmp_path) as waiting:
        for line in waiting.stdout:
            lines.append(line)
            if "waits for the same trial of an earlier command" in line:
                (tmp_path / "go").touch()
    assert waiting.returncode == 0 and "trial 0 finished: 0.2500\n" in lines, "".join(lines)


@pytest.mark.slow
def test_a_sweep_in_the_folder_of_another_that_goes_on_is_refused_before_hydra_writes(
    holder, export, tmp_path
):
    sweep = tmp_path / "sweep"
    holder(sweep / "1", ["module.optimizer.lr=1e-3"])
    (sweep / "multirun.yaml").write_text(
        yaml.safe_dump({"hydra": {"overrides": {"task": ["module.optimizer.lr=1e-3,1e-4"]}}})
    )
    before = (sweep / "multirun.yaml").read_bytes()
    words = ["do=[inspect]", "datamodule.phantom=null", f"datamodule.root={export}", "seed=1,2"]
    other = _run("-m", *words, f"hydra.sweep.dir={sweep}", folder=tmp_path)
    said = other.communicate(timeout=300)[0]
    assert (
        other.returncode == 2
        and f"hydra.sweep.dir={sweep} is in use: trial 1 of another sweep trains there" in said
    ), said
    assert (sweep / "multirun.yaml").read_bytes() == before and not (sweep / "0").exists()
