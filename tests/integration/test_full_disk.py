"""Test of a cache on disks that become full; it mounts disks, in a namespace of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def may_mount() -> bool:
    words = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_every_disk_that_is_too_small_for_the_cache_ends_in_one_sentence():
    if not may_mount():
        pytest.skip("this system lets nobody but root mount a disk")
    words = [sys.executable, "benchmarks/faults.py", "disk", "--what", "cache"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("19/19") == 18, done.stdout + done.stderr
