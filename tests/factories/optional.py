"""Optional packages: a test without its package is skipped, and fails where CI is set."""

import os
import shutil
import subprocess
from importlib import import_module
from types import ModuleType
from typing import NoReturn

import pytest


def import_optional(module: str) -> ModuleType:
    """Import a module of a package that a user may lack; the dev group has it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        lack(f"{error.name} is not installed; install the dev group")


def lack(reason: str) -> NoReturn:
    """End a test that cannot run here: as failed in CI, where all must run, else as skipped."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def find_program(name: str, package: str) -> str:
    """Return the path of a program; a test is skipped where it is missing, also in CI.

    Args:
        name: Name of the program.
        package: Debian's package that has it, for the reason.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; apt-get install {package}")
    return found


def need_mounts() -> None:
    """Skip the test unless this process may mount a small disk in a namespace of its own."""
    words = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        allowed = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this system lets nobody but root mount a disk")


def need_permissions() -> None:
    """Skip the test for root, who may write everywhere."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
