"""Disks that become full at every 5 % of what is written.

python benchmarks/faults.py disk [--what cache run] [--step 5]

A small disk (tmpfs) is mounted in a namespace of its own, which needs root or a Linux that lets
users make namespaces. What must hold: one sentence and exit code 2, nothing left behind, and the
same command succeeds after space is made.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import parts  # noqa: F401  (puts the repository on the path)

from benchmarks import crashes
from datamodules.formats import row_files
from datamodules.formats.rle import encode_rle
from datamodules.loading import cache_builder
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest
from datamodules.phantoms import brain_tumor
from run import run_or_exit

IMAGES, SIDE = 24, 256
OWN_NAMESPACE = "FAULTS_NAMESPACE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--what", choices=sorted(PARTS), nargs="+", default=sorted(PARTS))
    parser.add_argument("--step", type=int, default=5, help="percent between two sizes")


def run(arguments: argparse.Namespace) -> int:
    """Fill the disks; return 1 if anything did not hold."""
    if OWN_NAMESPACE not in os.environ:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        words = ["unshare", "--mount", *user, sys.executable, *sys.argv]
        return subprocess.call(words, env={**os.environ, OWN_NAMESPACE: "1"})
    good = True
    for what in arguments.what:
        with tempfile.TemporaryDirectory() as folder:
            good &= PARTS[what](Path(folder), range(arguments.step, 100, arguments.step))
    return int(not good)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Mount a disk of some bytes at a new folder; yield a function that changes its size."""
    place.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], check=True)

    mount("-o", f"size={size},mode=700")
    try:
        yield lambda other: mount("-o", f"remount,size={other}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def in_a_process(work: Callable[[], object], log: Path) -> tuple[int, str]:
    """Call `work` as run.py does; return the exit code, negative for a signal, and stderr."""
    return crashes.call_in_fork(partial(run_or_exit, work), log), log.read_text()


def draw(folder: Path, deep: bool) -> Manifest:
    """Noise with masks, the last images of 16 bits."""
    random, rows = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(IMAGES):
        depth = np.uint16 if deep and number >= IMAGES // 2 else np.uint8
        image = random.integers(0, np.iinfo(depth).max, (SIDE, SIDE), depth)
        path = folder / f"{number}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        mask = (random.random((SIDE, SIDE, 1)) < 0.1).astype(np.uint8)
        rows.append({"id": str(number), "image": str(path), "mask": encode_rle(mask)})
    return Manifest(pd.DataFrame(rows))


def checked() -> None:
    """The space is checked before anything is written."""


def filled_later() -> None:
    """Another process fills the disk after the check."""
    cache_builder.check_space = lambda folder, needed: None


def filled_while_writing() -> None:
    """The same, where the file system cannot allocate space (copy on write)."""
    filled_later()
    row_files.reserve = cache_builder.reserve = lambda file, size: os.ftruncate(file, size)


def build_on(mode: Callable[[], None], manifest: Manifest, cache: Path) -> None:
    """Build a cache on a disk of some mode."""
    mode()
    build_cache(manifest, SIDE, 1, cache)


def fill_cache(folder: Path, steps: range) -> bool:
    """Fill the disk of the cache; print a table and return True if all is as it must be."""
    good = True
    for deep, bits in ((False, 8), (True, 16)):
        manifest = draw(folder / f"images{deep}", deep)
        whole = build_cache(manifest, SIDE, 1, folder / f"whole{deep}")
        files = list(whole.folder.iterdir())
        size = sum(path.stat().st_size for path in files)
        for mode in (checked, filled_later, filled_while_writing):
            # a cache of 16 bits first has a file of 8 bits too, and later the small files; where
            # space cannot be allocated, half of the first one is sparse
            peak = size + deep * IMAGES * SIDE**2
            if deep and mode is filled_while_writing:
                pixels = whole.images.dtype.itemsize + 1  # image and mask
                peak = max(size, IMAGES * SIDE**2 * (2 * pixels + 1) // 2)
            counts = dict.fromkeys(("sentence", "nothing left", "resumed, same pixels"), 0)
            for percent in steps:
                place = folder / f"{deep}-{mode.__name__}-{percent}"
                with small_disk(place, peak * percent // 100) as resize:
                    cache = place / "cache"

                    build = partial(build_on, mode, manifest, cache)
                    code, said = in_a_process(build, folder / "log")
                    one = said.strip().count("\n") == 0 and "paths.cache" in said
                    counts["sentence"] += code == 2 and one and str(cache) in said
                    counts["nothing left"] += not any(cache.iterdir())
                    resize(3 * peak)
                    code, said = in_a_process(build, folder / "log")
                    again = build_cache(manifest, SIDE, 1, cache)
                    same = np.array_equal(again.images, whole.images) and np.array_equal(
                        again.masks, whole.masks
                    )
                    counts["resumed, same pixels"] += code == 0 and same
                    del again  # it holds files open
            good &= all(count == len(steps) for count in counts.values())
            print(
                f"cache of {peak / 1e6:.1f} MB, {bits} bits, {mode.__name__.replace('_', ' ')}: "
                + ", ".join(f"{name} {count}/{len(steps)}" for name, count in counts.items()),
                flush=True,
            )
    return good


def fill_run(folder: Path, steps: range) -> bool:
    """Fill the disk of the run folder; after space is made the run continues and ends equal."""
    crashes.prepare_forks()
    brain_tumor.write(folder / "data", train=26, valid=12, test=12, size=96, seed=3)
    os.environ["MEDICAL_CACHE"] = str(folder / "cache")
    words = [*crashes.SMALL, f"datamodule.root={folder / 'data'}"]
    whole = folder / "whole"
    if crashes.run_in_fork(words, whole, None):
        return False
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    counts = dict.fromkeys(("sentence", "resumed, equal"), 0)
    for percent in steps:
        place = folder / f"disk{percent}"
        with small_disk(place, size * percent // 100) as resize:
            log = folder / "log"
            code = crashes.run_in_fork(words, place / "run", None, log=log)
            said = log.read_text(errors="replace")
            one = "Traceback" not in said and "space" in said.strip().splitlines()[-1]
            counts["sentence"] += code == 2 and one
            resize(3 * size)
            code = crashes.run_in_fork([*words, "resume=auto"], place / "run", None)
            problem = crashes.find_differences(whole, place / "run") if not code else [str(code)]
            counts["resumed, equal"] += not problem
            if code or problem or not one:
                print(f"{percent} %: {said.strip().splitlines()[-1:]} {problem}", flush=True)
    print(
        f"run folder of {size / 1e6:.1f} MB: "
        + ", ".join(f"{name} {count}/{len(steps)}" for name, count in counts.items()),
        flush=True,
    )
    return all(count == len(steps) for count in counts.values())


PARTS: dict[str, Callable[[Path, range], bool]] = {
    "cache": fill_cache,
    "run": fill_run,
}
