"""Checks of the packages against the project and against each other, and of the commit."""

import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

from omegaconf import DictConfig
from packaging.requirements import Requirement

from callbacks.doctor.child import REPOSITORY_ROOT
from callbacks.doctor.finding import CheckResult, Issue
from callbacks.report.content import git_commit as commit_here

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
)  # all of them bring cv2


def check_packages(cfg: DictConfig) -> CheckResult:
    """Compare the installed packages with those that pyproject.toml asks for."""
    content = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {
        need.name: installed_version(need.name)
        for need in map(Requirement, content["project"]["dependencies"])
    }
    said = ", ".join(f"{name} {known.get(name) or 'missing'}" for name in LISTED_PACKAGES)
    return CheckResult(
        {"packages": said},
        known,
        (
            *_unmet_requirements(content["project"]["dependencies"]),
            *_check_opencv(),
            *_check_torchvision(),
        ),
    )


def installed_version(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unmet_requirements(needs: list[str]) -> list[Issue]:
    found = []
    for need in map(Requirement, needs):
        there = installed_version(need.name)
        if there is None:
            mend = "install the project again, with uv sync or pip install -e . in its folder"
            found.append(Issue("stops a run", f"the package {need.name} is not installed", mend))
        elif not need.specifier.contains(there, prereleases=True):
            mend = f"install it with pip install '{need}', or uv sync"
            found.append(
                Issue(
                    "warning",
                    f"{need.name} {there} is not what the project asks for ({need.specifier})",
                    mend,
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
        return []  # said already
    mend = "install both together, from one index: pip install --upgrade torch torchvision"
    for need in map(Requirement, requires("torchvision") or []):
        if need.name == "torch" and not need.specifier.contains(torch, prereleases=True):
            return [
                Issue(
                    "stops a run",
                    f"torchvision {vision} was built for torch{need.specifier}, but torch {torch}"
                    " is installed",
                    mend,
                )
            ]
    builds = [number.partition("+")[2] for number in (torch, vision)]
    if all(builds) and builds[0] != builds[1]:
        return [
            Issue(
                "stops a run",
                f"torch is built for {builds[0]} and torchvision for {builds[1]}",
                mend,
            )
        ]
    return []


def check_commit(cfg: DictConfig) -> CheckResult:
    """Report the commit that a report from here will name."""
    head = commit_here()
    if head is None:
        mend = "get the project with git clone, and install git"
        return CheckResult(
            {"commit": "unknown"},
            {"commit": None},
            (Issue("warning", "reports from here will name no git commit", mend),),
        )
    return CheckResult(
        {"commit": head[:12] + (", with changes since" if head.endswith("+") else "")},
        {"commit": head},
    )
