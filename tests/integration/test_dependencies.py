"""Tests that pyproject.toml names every imported package, and that CI runs the tests of all."""

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.factories.optional import import_optional

ROOT = Path(__file__).parents[2]
PACKAGES = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))} | {
    "run",
    "hydra_plugins",
}


def _names(requirements: list[str]) -> set[str]:
    return {_plain(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imports(tree: ast.AST) -> set[str]:
    """Top-level names of the packages that are imported anywhere in a syntax tree."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return {
        name
        for name in names
        if name and name not in sys.stdlib_module_names and name not in PACKAGES
    }


def _imported(files: list[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Packages that are imported with their module, and those that only a function imports."""
    always: dict[str, Path] = {}
    within: dict[str, Path] = {}
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        lazily = {name for function in functions for name in _imports(function)}
        for node in functions:
            node.body = []
        always |= dict.fromkeys(_imports(tree), path)
        within |= dict.fromkeys(lazily, path)
    return always, within


@pytest.mark.parametrize(
    "part", ["run.py", "datamodules", "lightning_modules", "callbacks", "hydra_plugins", "tests"]
)
def test_every_imported_package_is_a_declared_dependency(part: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = _names(project["project"]["dependencies"])
    if part == "tests":
        declared |= _names(project["dependency-groups"]["dev"])
    files = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    extras = project["project"].get("optional-dependencies", {}).values()
    optional = declared | {name for packages in extras for name in _names(packages)}
    distributions = packages_distributions()
    always, within = _imported(files)
    missing = {
        name: str(path.relative_to(ROOT))
        for found, known in ((always, declared), (within, optional))
        for name, path in found.items()
        if not {_plain(distribution) for distribution in distributions.get(name, [name])} & known
    }
    assert missing == {}


def test_the_dev_group_has_the_packages_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    here = _names(project["dependency-groups"]["dev"]) | _names(project["project"]["dependencies"])
    extras = project["project"].get("optional-dependencies", {})
    own = {_plain(project["project"]["name"])}  # an extra that is the sum of others names this
    missing = {name: _names(packages) - here - own for name, packages in extras.items()}
    assert not any(missing.values()), missing


def test_a_missing_optional_package_fails_in_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no_such_package is not installed"):
        import_optional("no_such_package.part")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no_such_package is not installed"):
        import_optional("no_such_package.part")


def test_tests_of_optional_packages_ask_for_them_in_one_way() -> None:
    """Skips of their own would stay silent in CI."""
    pattern = re.compile(r"importorskip|mark\.skipif|pytest\.skip\(")
    skipping = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8")) and path != Path(__file__)
    }
    assert skipping == {"tests/factories/optional.py", "tests/unit/conftest.py"}  # and a browser


def test_the_constraints_are_versions_alone_and_those_of_the_tests():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines)
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    for text in wanted:
        requirement = Requirement(text)
        there = pinned[requirement.name]
        assert requirement.specifier.contains(there, prereleases=True), text
        if "CI" in os.environ:  # elsewhere another build may be installed; make constraints
            assert version(requirement.name).partition("+")[0] == there, text
