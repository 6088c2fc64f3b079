"""Checks of packages, folders, W&B, the model hub and Slurm."""

import os
import shutil
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from omegaconf import DictConfig
from packaging.requirements import Requirement

from datamodules.data_root import check_root
from datamodules.errors import ManifestError, UserError
from engine.doctor.check_result import CheckResult, Issue, format_gigabytes
from engine.doctor.distributed import REPOSITORY_ROOT
from engine.doctor.hardware import n_devices
from engine.tracking.logger import is_logged_in
from lightning_modules.configured_weights import weight_keys
from lightning_modules.pretrained.sources import AUTO
from reporting.commands import INSTALLED
from reporting.report_data import git_commit as commit_here
from reporting.report_data import package_versions

MAX_COUNTED_FILES = 1_000_000  # limit of the count, which is then no longer informative


def check_cache_folder(cfg: DictConfig) -> CheckResult:
    """Check the folder of decoded images."""
    return _check_space("cache", cfg.paths.cache)


def check_runs_folder(cfg: DictConfig) -> CheckResult:
    """Check the folder of checkpoints and reports."""
    return _check_space("runs", cfg.paths.runs)


def _check_space(name: str, configured: str) -> CheckResult:
    """Check free space and write access of a folder that is created when first needed.

    Nothing is left behind.
    """
    key, place = f"paths.{name}={configured}", Path(configured).expanduser().absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        fix = f"make it writable, or set paths.{name}=... to a folder that is"
        wrong = Issue(
            "stops a run",
            f"{key} cannot be written ({error.strerror or type(error).__name__})",
            fix,
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
        fix = f"delete what is no longer needed, or set paths.{name}=... to another disk"
        found.append(Issue("stops a run" if usage.free < 1e9 else "warning", what, fix))
    known = {
        "path": configured,
        "writable": True,
        "free_bytes": usage.free,
        "total_bytes": usage.total,
    }
    return CheckResult(
        {
            name: (
                f"{configured}: {format_gigabytes(usage.free)} free of"
                f" {format_gigabytes(usage.total)}"
            )
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
    message = {"DATA_ROOT": named or "not set"}
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
            {"data": f"{configured}: phantoms, generated when first needed", **message},
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
        return CheckResult(
            {"data": f"{configured}: cannot be read", **message}, known, tuple(found)
        )
    try:
        check_root(root)
    except ManifestError as error:
        what, _, fix = str(error).partition("; ")
        found.append(Issue("stops a run", what, fix))
        return CheckResult({"data": f"{configured}: nothing there", **message}, known, tuple(found))
    known["files"] = number = _count_files(root)
    return CheckResult(
        {
            "data": f"{configured}: {number:,}{' or more' * (number == MAX_COUNTED_FILES)} files",
            **message,
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


def check_wandb(cfg: DictConfig) -> CheckResult:
    """Check for a W&B login; the key is not shown."""
    login = is_logged_in()
    mode = os.environ.get("WANDB_MODE", "online")
    logger = cfg.logger.get("wandb")
    message = (
        f"{'login found' if login else 'no login'}, WANDB_MODE={mode},"
        f" {'used' if logger else 'not used'} by this run"
    )
    known = {"login": login, "mode": mode, "used": logger is not None}
    if logger and not login and mode == "online" and logger.mode == "online":
        what = "logger=wandb, but there is no login, so the run will be kept offline"
        return CheckResult(
            {"W&B": message},
            known,
            (Issue("warning", what, "log in with wandb login, or set WANDB_API_KEY"),),
        )
    return CheckResult({"W&B": message}, known)


def check_weights(cfg: DictConfig) -> CheckResult:
    """Check where the pretrained weights of the experiment come from; nothing is downloaded.

    Of a server that they would be downloaded from it is only checked that it can be reached.
    """
    from huggingface_hub import constants

    from lightning_modules.configured_weights import find_requests
    from lightning_modules.pretrained.hub import server_of
    from lightning_modules.pretrained.resolver import (
        describe_scratch,
        resolve,
        unavailable_error,
    )

    offline = constants.HF_HUB_OFFLINE
    known: dict[str, Any] = {"offline": offline, "found": [], "missing": []}
    words, issues = [], []
    try:
        for request in find_requests(cfg):
            found = resolve(request, online=False)
            if found is not None:
                words.append(f"{request.key}: {found}")
                known["found"].append(request.key)
                continue
            if request.value == AUTO:
                words.append(f"from scratch, because {describe_scratch(request)}")
                continue
            known["missing"].append(request.key)
            asked = f"{request.key}={request.value}"
            if offline or request.source is None:
                words.append(f"{asked}: not on this machine")
                reason = "its library publishes none"
                reason = reason if request.source is None else "HF_HUB_OFFLINE is set"
                what, _, fix = str(unavailable_error(request, reason)).partition("; ")
                issues.append(Issue("stops a run", what, fix))
                continue
            words.append(f"{asked}: would be downloaded from {request.source} (not tried)")
            problem = reach_server(server_of(request.source))
            if problem is not None:
                what, _, fix = str(unavailable_error(request, problem)).partition("; ")
                issues.append(Issue("warning", what, fix))
    except UserError as refusal:
        what, _, fix = str(refusal).rpartition("; ")
        issues.append(Issue("stops a run", what, fix))
    message = "; ".join(words) or "this run asks for no pretrained weights"
    return CheckResult({"weights": message}, known, tuple(issues))


REACH_SECONDS = 2.0


def reach_server(url: str) -> str | None:
    """Try to connect to a server, or to the proxy in front of it.

    Args:
        url: Address of the server.

    Returns:
        Why it cannot be reached within two seconds; None if it can.
    """
    address = urlsplit(url)
    host = address.hostname or ""
    found: list[str | None] = []
    proxy = None if proxy_bypass(host) else getproxies().get(address.scheme)
    there = urlsplit(proxy) if proxy else address
    port = there.port or (443 if there.scheme == "https" else 80)

    def connect() -> None:
        """Connect, and note the outcome."""
        try:
            socket.create_connection((there.hostname or "", port), REACH_SECONDS).close()
            found.append(None)
        except OSError as error:
            found.append(error.strerror or type(error).__name__)

    thread = Thread(target=connect, daemon=True)  # a name server that hangs has no timeout
    thread.start()
    thread.join(REACH_SECONDS)
    reason = found[0] if found else f"no answer within {REACH_SECONDS:g} s"
    return None if reason is None else f"{there.hostname} cannot be reached: {reason}"


def requested_weights(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the network's keys that name pretrained weights of a library, and their values.

    Local files and folders are left out.
    """
    return (
        (key, value) for key, value in weight_keys(cfg) if not Path(value).expanduser().exists()
    )


def check_slurm(cfg: DictConfig) -> CheckResult:
    """Check if jobs can be submitted, and if the current job fits the run."""
    sends, job = shutil.which("sbatch") is not None, os.environ.get("SLURM_JOB_ID")
    message = (
        f"{'sbatch is there' if sends else 'no sbatch'}, {'in a job' if job else 'not in a job'}"
    )
    known = {"sbatch": sends, "job": job is not None}
    alone = "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in (
        "bash",
        "interactive",
    )
    if job is None or alone:  # Lightning then starts its processes itself
        return CheckResult({"Slurm": message}, known)
    asked = (
        ("SLURM_NTASKS_PER_NODE", "devices", n_devices(cfg)),
        ("SLURM_NNODES", "num_nodes", cfg.trainer.num_nodes),
    )
    found = []
    for variable, key, here in asked:
        given = os.environ.get(variable)
        if given and int(given) != here:
            what = f"the Slurm job has {variable}={given}, but trainer.{key} comes to {here}"
            found.append(
                Issue("stops a run", what, f"take trainer.{key}={given}, or ask Slurm for {here}")
            )
    return CheckResult({"Slurm": message}, known, tuple(found))


LISTED_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "hydra-core",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "numpy",
)
OPENCV_PACKAGES = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)  # all of them contain cv2


def check_packages(cfg: DictConfig) -> CheckResult:
    """Compare the installed packages with those that pyproject.toml asks for."""
    content = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {
        need.name: installed_version(need.name)
        for need in map(Requirement, content["project"]["dependencies"])
    }
    message = ", ".join(f"{name} {known.get(name) or 'missing'}" for name in LISTED_PACKAGES)
    return CheckResult(
        {"packages": message},
        known,
        (
            *_unmet_requirements(content["project"]["dependencies"]),
            *_check_opencv(),
            *_check_torchvision(),
        ),
    )


def installed_version(package: str) -> str | None:
    """Return a package's version; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unmet_requirements(needs: list[str]) -> list[Issue]:
    found = []
    for need in map(Requirement, needs):
        there = installed_version(need.name)
        if there is None:
            fix = "install the project again, with uv sync or pip install -e . in its folder"
            found.append(Issue("stops a run", f"the package {need.name} is not installed", fix))
        elif not need.specifier.contains(there, prereleases=True):
            fix = f"install it with pip install '{need}', or uv sync"
            found.append(
                Issue(
                    "warning",
                    f"{need.name} {there} is not what the project asks for ({need.specifier})",
                    fix,
                )
            )
    return found


def _check_opencv() -> list[Issue]:
    several = [name for name in OPENCV_PACKAGES if installed_version(name)]
    if len(several) < 2:
        return []
    what = f"{' and '.join(several)} are both installed and overwrite each other's files"
    return [
        Issue(
            "warning",
            what,
            f"pip uninstall -y {' '.join(several)} && pip install opencv-python-headless",
        )
    ]


def _check_torchvision() -> list[Issue]:
    """Check that torchvision was built for this torch; else its operators are missing."""
    torch, vision = installed_version("torch"), installed_version("torchvision")
    if torch is None or vision is None:
        return []  # reported already
    fix = "install both together, from one index: pip install --upgrade torch torchvision"
    for need in map(Requirement, requires("torchvision") or []):
        if need.name == "torch" and not need.specifier.contains(torch, prereleases=True):
            return [
                Issue(
                    "stops a run",
                    f"torchvision {vision} was built for torch{need.specifier}, but torch {torch}"
                    " is installed",
                    fix,
                )
            ]
    builds = [number.partition("+")[2] for number in (torch, vision)]
    if all(builds) and builds[0] != builds[1]:
        return [
            Issue(
                "stops a run",
                f"torch is built for {builds[0]} and torchvision for {builds[1]}",
                fix,
            )
        ]
    return []


def check_commit(cfg: DictConfig) -> CheckResult:
    """Return the commit that reports of this machine will name; the version where installed."""
    head = commit_here()
    if head is None and INSTALLED:
        found = package_versions("medical-lightning")
        return CheckResult({"version": found}, {"commit": None, "version": found})
    if head is None:
        fix = "get the project with git clone, and install git"
        return CheckResult(
            {"commit": "unknown"},
            {"commit": None},
            (Issue("warning", "reports from here will name no git commit", fix),),
        )
    return CheckResult(
        {"commit": head[:12] + (", with changes since" if head.endswith("+") else "")},
        {"commit": head},
    )
