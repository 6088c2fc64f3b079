"""Seconds until the command line answers, beside the bare import of the libraries of a run.

Commands take turns with the import, so that a busy machine slows both; medians over rounds.

python benchmarks/answer.py [--rounds 5] [--runs FOLDER_WITH_FINISHED_RUNS]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
TASK = ["experiment=unetpp_brain_tumor", "scale=demo"]
COMMANDS = {
    "misspelt key": [*TASK, "datamodule.batch_siz=4"],
    "unknown experiment": ["experiment=unetpp_brain_tumour"],
    "missing root": ["experiment=unetpp_brain_tumor", "datamodule.root=/nowhere"],
    "wrong type": [*TASK, "datamodule.batch_size=four"],
    "--help": ["--help"],
    "--cfg job": [*TASK, "--cfg", "job"],
}
COMPARE = "do=[compare] of two runs"
FIRST_STEP = [*TASK, "trainer.max_steps=1", "do=[fit]", "trainer.num_sanity_val_steps=0"]
BARE = "import torch, lightning, segmentation_models_pytorch, albumentations, pandas"


def seconds(command: list[str], **environment: str) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - start


def seconds_to_line(command: list[str], words: str) -> float:
    """Return how long a command takes until it prints a line with some words."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        found = [time.perf_counter() - start for line in process.stdout or () if words in line]
    return found[0]


def seconds_to_first_step(folder: Path) -> float:
    """Return how long a run takes until its first training step begins; phantoms are there."""
    file = folder / "first_step"
    file.unlink(missing_ok=True)
    code = "import sys; sys.path[:0] = ['benchmarks', '.']; import run, first_step; run.main()"
    words = [*FIRST_STEP, f"hydra.run.dir={folder}/run"]
    start = time.time()
    subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {"FIRST_STEP": str(file)},
    )
    return float(file.read_text().split()[0]) - start


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=Path)
    asked = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        seconds_to_first_step(place)  # writes the phantoms and their cache
        commands = dict(COMMANDS)
        if asked.runs:
            runs = [path.parent for path in sorted(asked.runs.glob("*/*/report.json"))][:2]
            commands[COMPARE] = [
                "do=[compare]",
                f"runs=[{','.join(map(str, runs))}]",
                f"paths.runs={asked.runs}",
                f"hydra.run.dir={place}/compare",
            ]
        for _ in range(asked.rounds):
            found["bare import"].append(seconds([sys.executable, "-c", BARE]))
            for name, words in commands.items():
                command = [sys.executable, "run.py", *words]
                found[name].append(seconds(command))
                if name == COMPARE:
                    found["its table"].append(seconds_to_line(command, " minus "))
            found["first step"].append(seconds_to_first_step(place))
    bare = statistics.median(found["bare import"])
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:<28}{middle:6.2f} s  {middle / bare:5.2f} of the bare import")
    beyond = [a - b for a, b in zip(found["first step"], found["bare import"], strict=True)]
    print(f"first step beyond the import{statistics.median(beyond):6.2f} s")


if __name__ == "__main__":
    main()
