"""Checks of the packages against the project and against each other, and of the commit."""

import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

from omegaconf import DictConfig
from packaging.requirements import Requirement

from callbacks.doctor.child import ROOT
from callbacks.doctor.finding import Answer, Finding
from callbacks.report.content import commit as commit_here

SHOWN = (
    "torch",
    "torchvision",
    "lightning",
    "hydra-core",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "numpy",
)
DRAWERS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)  # all of them bring cv2


def packages(cfg: DictConfig) -> Answer:
    """Compare the installed packages with those that pyproject.toml asks for."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {
        need.name: installed(need.name)
        for need in map(Requirement, content["project"]["dependencies"])
    }
    said = ", ".join(f"{name} {known.get(name) or 'missing'}" for name in SHOWN)
    return Answer(
        {"packages": said},
        known,
        (*_unmet(content["project"]["dependencies"]), *_drawers(), *_vision()),
    )


def installed(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unmet(needs: list[str]) -> list[Finding]:
    found = []
    for need in map(Requirement, needs):
        there = installed(need.name)
        if there is None:
            mend = "install the project again, with uv sync or pip install -e . in its folder"
            found.append(Finding("stops a run", f"the package {need.name} is not installed", mend))
        elif not need.specifier.contains(there, prereleases=True):
            mend = f"install it with pip install '{need}', or uv sync"
            found.append(
                Finding(
                    "warning",
                    f"{need.name} {there} is not what the project asks for ({need.specifier})",
                    mend,
                )
            )
    return found


def _drawers() -> list[Finding]:
    several = [name for name in DRAWERS if installed(name)]
    if len(several) < 2:
        return []
    what = f"{' and '.join(several)} are both installed and overwrite each other's files"
    return [
        Finding(
            "warning",
            what,
            f"pip uninstall -y {' '.join(several)} && pip install opencv-python-headless",
        )
    ]


def _vision() -> list[Finding]:
    """Check that torchvision was built for this torch; else its operators are missing."""
    torch, vision = installed("torch"), installed("torchvision")
    if torch is None or vision is None:
        return []  # said already
    mend = "install both together, from one index: pip install --upgrade torch torchvision"
    for need in map(Requirement, requires("torchvision") or []):
        if need.name == "torch" and not need.specifier.contains(torch, prereleases=True):
            return [
                Finding(
                    "stops a run",
                    f"torchvision {vision} was built for torch{need.specifier}, but torch {torch}"
                    " is installed",
                    mend,
                )
            ]
    builds = [number.partition("+")[2] for number in (torch, vision)]
    if all(builds) and builds[0] != builds[1]:
        return [
            Finding(
                "stops a run",
                f"torch is built for {builds[0]} and torchvision for {builds[1]}",
                mend,
            )
        ]
    return []


def commit(cfg: DictConfig) -> Answer:
    """Report the commit that a report from here will name."""
    head = commit_here()
    if head is None:
        mend = "get the project with git clone, and install git"
        return Answer(
            {"commit": "unknown"},
            {"commit": None},
            (Finding("warning", "reports from here will name no git commit", mend),),
        )
    return Answer(
        {"commit": head[:12] + (", with changes since" if head.endswith("+") else "")},
        {"commit": head},
    )
