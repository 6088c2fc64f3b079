"""Short forms of benchmarks/faults.py: kills, full disks, runs that end together; all inputs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories.optional import need_mounts

ROOT = Path(__file__).parents[2]


def faults(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "benchmarks/faults.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["--again"], ["--half", "--resume", "new"]], ids=["killed twice", "half a file"]
)
def test_a_run_that_was_killed_at_any_change_of_its_folder_goes_on_exactly(words):
    said = faults("crash", "--points", "6", *words)
    assert "6 points" in said and ", 0 not equal" in said


@pytest.mark.slow
def test_runs_that_end_together_all_have_their_row():
    assert "3 times 24 runs that end together: 0 rows lost" in faults("ends", "--times", "3")


@pytest.mark.slow
def test_every_disk_that_is_too_small_ends_in_one_sentence():
    need_mounts()
    assert faults("disk", "--what", "cache").count("19/19") == 18
    assert faults("disk", "--what", "run", "--step", "25").count("3/3") == 2


@pytest.mark.slow
def test_the_whole_table_of_hostile_inputs():
    cases = re.search(r"^all +(\d+)", faults("hostile"), re.MULTILINE)
    assert cases and int(cases[1]) >= 450
