"""Time from starting a trial to its first training step, fresh or forked.

A fresh `python run.py` is compared with a process forked from one that has imported already.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "lora_pneumonia": ["init_from=null", "datamodule.phantom.patients=60"],
    "unetpp_brain_tumor": [],
}
SHORT = [
    "scale=demo",
    "do=[fit]",
    "trainer.max_epochs=1",
    "datamodule.batches_per_epoch=1",
    "trainer.enable_progress_bar=false",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", choices=SETTINGS, default="lora_pneumonia")
    parser.add_argument("--trials", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = [
            f"experiment={arguments.experiment}",
            *SHORT,
            *SETTINGS[arguments.experiment],
            f"paths.cache={folder}/cache",
            f"paths.runs={folder}",
        ]
        log = Path(folder) / "steps"
        environment = os.environ | {"FIRST_STEP": str(log), "PYTHONPATH": str(ROOT)}
        fresh(words, Path(folder) / "warm", environment)  # draws and decodes the images
        log.unlink()
        alone = [
            fresh(words, Path(folder) / f"fresh{k}", environment) for k in range(arguments.trials)
        ]
        computed = [seconds(log, 1)]
        log.unlink()
        forked = sweep(
            [*words, f"seed=range({arguments.trials + 1})", "datamodule.seed=0"],
            Path(folder) / "sweep",
            environment,
            log,
        )
        computed.append(seconds(log, 1)[1:])
    print(
        f"{arguments.experiment}, {arguments.trials} trials, seconds from asking to the first"
        " training step, median (all):"
    )
    for name, times, own in zip(
        ("fresh process", "forked"), (alone, forked[1:]), computed, strict=True
    ):
        print(
            f"  {name:<16} {statistics.median(times):6.2f} "
            f" ({', '.join(f'{s:.2f}' for s in times)}), of one core {statistics.median(own):.2f}"
        )
    print(f"  the first forked {forked[0]:6.2f}  (waits for the imports)")


def seconds(log, column):
    """Return one column of what the trials recorded."""
    return [float(line.split()[column]) for line in log.read_text().splitlines()]


def fresh(words, folder, environment):
    """Return the seconds of a fresh process to its first step."""
    code = "import sys, benchmarks.first_step, run; run.main()"
    began = time.time()
    run_quietly([sys.executable, "-c", code, *words, f"hydra.run.dir={folder}"], environment)
    return seconds(Path(environment["FIRST_STEP"]), 0)[-1] - began


ASKED = """
import sys, time
from engine.sweeps.process_launcher import ProcessPool
own = ProcessPool._start_trial
def start(self, *about):
    with open({log!r}, "a") as file:
        file.write(f"{{time.time()}}\\n")
    return own(self, *about)
ProcessPool._start_trial = start
import run
run.main()
"""


def sweep(words, folder, environment, log):
    """Return the seconds of each trial of a multirun to its first step."""
    asked = folder.parent / "asked"
    preload = (
        "hydra.launcher.preload=[run,engine.sweeps.process_launcher,engine.tasks,"
        "engine.sweeps.optuna_sweeper,benchmarks.first_step,timm]"
    )
    script = folder.parent / "asking.py"  # a file, because processes are made from the main module
    script.write_text(
        "if __name__ == '__main__':\n"
        + "\n".join(f"    {line}" for line in ASKED.format(log=str(asked)).splitlines())
    )
    run_quietly(
        [sys.executable, str(script), "-m", *words, f"hydra.sweep.dir={folder}", preload],
        environment,
    )
    return [step - ask for ask, step in zip(seconds(asked, 0), seconds(log, 0), strict=True)]


def run_quietly(command, environment):
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
