"""Tests that pyproject.toml names every imported package."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))} | {
    "run",
    "hydra_plugins",
}


def _names(requirements: list[str]) -> set[str]:
    return {_plain(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(files: list[Path]) -> dict[str, Path]:
    """Top-level name of each imported package, and a file that imports it."""
    found: dict[str, Path] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            )
            found |= {name.split(".")[0]: path for name in names}
    return {
        name: path
        for name, path in found.items()
        if name and name not in sys.stdlib_module_names and name not in PACKAGES
    }


@pytest.mark.parametrize(
    "part", ["run.py", "datamodules", "lightning_modules", "callbacks", "hydra_plugins", "tests"]
)
def test_every_imported_package_is_a_declared_dependency(part: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = _names(project["project"]["dependencies"])
    if part == "tests":
        declared |= _names(project["dependency-groups"]["dev"])
    files = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    distributions = packages_distributions()
    missing = {
        name: str(path.relative_to(ROOT))
        for name, path in _imported(files).items()
        if not {_plain(distribution) for distribution in distributions.get(name, [name])} & declared
    }
    assert missing == {}
