"""Checks of folders: free space for the cache and the runs, and a data set that can be read."""

import os
import shutil
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from callbacks.doctor.finding import CheckResult, Issue, format_gigabytes
from datamodules.checks import check_root
from datamodules.refusal import ManifestError

MAX_COUNTED_FILES = 1_000_000  # files at most; more say nothing more


def check_cache_folder(cfg: DictConfig) -> CheckResult:
    """Check the folder of decoded images."""
    return _check_space("cache", cfg.paths.cache)


def check_runs_folder(cfg: DictConfig) -> CheckResult:
    """Check the folder of checkpoints and reports."""
    return _check_space("runs", cfg.paths.runs)


def _check_space(name: str, configured: str) -> CheckResult:
    """Check free space and write access of a folder that is made when first needed.

    Nothing is left behind.
    """
    key, place = f"paths.{name}={configured}", Path(configured).expanduser().absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        mend = f"make it writable, or set paths.{name}=... to a folder that is"
        wrong = Issue(
            "stops a run",
            f"{key} cannot be written ({error.strerror or type(error).__name__})",
            mend,
        )
        return CheckResult(
            {name: f"{configured}: cannot be written"},
            {"path": configured, "writable": False},
            (wrong,),
        )
    usage = shutil.disk_usage(place)
    found = []
    if usage.free < 10e9 or usage.free < usage.total / 50:
        what = (
            f"the disk of {key} is nearly full: {format_gigabytes(usage.free)} free of"
            f" {format_gigabytes(usage.total)}"
        )
        mend = f"delete what is no longer needed, or set paths.{name}=... to another disk"
        found.append(Issue("stops a run" if usage.free < 1e9 else "warning", what, mend))
    known = {
        "path": configured,
        "writable": True,
        "free_bytes": usage.free,
        "total_bytes": usage.total,
    }
    return CheckResult(
        {
            name: f"{configured}: {format_gigabytes(usage.free)} free of {format_gigabytes(usage.total)}"
        },
        known,
        tuple(found),
    )


def check_data_folder(cfg: DictConfig) -> CheckResult:
    """Check the data set's folder, and DATA_ROOT."""
    configured, drawn = cfg.datamodule.root, cfg.datamodule.phantom is not None
    root, found = Path(configured).expanduser(), []
    named = os.environ.get("DATA_ROOT")
    known = {"root": configured, "phantom": drawn, "DATA_ROOT": named, "files": None}
    said = {"DATA_ROOT": named or "not set"}
    if named and not Path(named).is_dir():
        found.append(
            Issue(
                "warning",
                f"DATA_ROOT={named} is not a folder",
                "correct it, or unset it and name datamodule.root=...",
            )
        )
    if drawn and not root.exists():
        return CheckResult(
            {"data": f"{configured}: phantoms, drawn when first needed", **said},
            known,
            tuple(found),
        )
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        found.append(
            Issue(
                "stops a run",
                f"datamodule.root={configured} cannot be read by this user",
                "ask its owner for read access",
            )
        )
        return CheckResult({"data": f"{configured}: cannot be read", **said}, known, tuple(found))
    try:
        check_root(root)
    except ManifestError as error:
        what, _, mend = str(error).partition("; ")
        found.append(Issue("stops a run", what, mend))
        return CheckResult({"data": f"{configured}: nothing there", **said}, known, tuple(found))
    known["files"] = number = _count_files(root)
    return CheckResult(
        {
            "data": f"{configured}: {number:,}{' or more' * (number == MAX_COUNTED_FILES)} files",
            **said,
        },
        known,
        tuple(found),
    )


def _count_files(root: Path) -> int:
    number = 0
    for _, _, files in os.walk(root):
        number += len(files)
        if number >= MAX_COUNTED_FILES:
            return MAX_COUNTED_FILES
    return number
