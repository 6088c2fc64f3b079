"""Runs that end at the same moment: each of them must have its row on the leaderboard.

python benchmarks/faults.py ends [--runs 24] [--times 20]

Every process waits for the others, then puts its run folder in place and brings the leaderboard up
to date, as a run does at its end.
"""

import argparse
import csv
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import parts  # noqa: F401  (puts the repository on the path)

from benchmarks.leaderboard import configuration, labels, make_run
from reporting.leaderboard import LEADERBOARD_NAME, update_leaderboard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--runs", type=int, default=24, help="runs that end together")
    parser.add_argument("--times", type=int, default=20, help="repetitions")


def run(arguments: argparse.Namespace) -> int:
    """Repeat; return 1 if a row was lost or a process failed."""
    work = Path(tempfile.mkdtemp(prefix="ends-"))
    config = configuration("lora_pneumonia")
    random = np.random.default_rng(0)
    for number in range(arguments.runs):
        evidence = labels(40, 1.0, random)
        make_run(work / "staged" / f"{number:03d}", number, evidence, config)
    lost, longest = 0, 0.0
    try:
        for _ in range(arguments.times):
            rows, seconds, codes = end_together(work, arguments.runs)
            lost += arguments.runs - rows + sum(code != 0 for code in codes)
            longest = max(longest, seconds)
    finally:
        shutil.rmtree(work)
    print(
        f"{arguments.times} times {arguments.runs} runs that end together: {lost} rows lost;"
        f" the longest took {longest:.1f} s"
    )
    return int(lost > 0)


def end_together(work: Path, runs: int) -> tuple[int, float, Sequence[int]]:
    """End all runs in an empty folder; return the rows, the seconds and the exit codes."""
    folder = work / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "staged", work / "copies")
    (folder / "lora_pneumonia").mkdir(parents=True)
    gate_read, gate_write = os.pipe()
    children = []
    for number in range(runs):
        child = os.fork()
        if child == 0:
            os.close(gate_write)
            os.read(gate_read, 1)  # returns when the parent closes its end
            _end_one(work, folder, number)
        children.append(child)
    os.close(gate_read)
    start = time.perf_counter()
    os.close(gate_write)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    seconds = time.perf_counter() - start
    shutil.rmtree(work / "copies")
    with (folder / f"{LEADERBOARD_NAME}.csv").open(encoding="utf-8", newline="") as file:
        names = {row["run"] for row in csv.DictReader(file)}
    return len(names), seconds, codes


def _end_one(work: Path, folder: Path, number: int) -> None:
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        own = folder / "lora_pneumonia" / f"{number:03d}"
        (work / "copies" / f"{number:03d}").rename(own)
        update_leaderboard(folder, own)
        code = 0
    finally:
        os._exit(code)
