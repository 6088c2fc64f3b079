"""Tests of incompatible package versions and of an unknown commit."""

from engine.doctor import environment
from tests.unit.engine.doctor.conftest import STOPS, WARNS, only


def versions(monkeypatch, **other: str | None) -> None:
    own = environment.installed_version
    monkeypatch.setattr(
        environment,
        "installed_version",
        lambda name: (
            other.get(name.replace("-", "_"), own(name))
            if name.replace("-", "_") in other
            else own(name)
        ),
    )


def test_packages(plain, monkeypatch):
    versions(monkeypatch, opencv_python=None)
    assert not environment.check_packages(plain).issues
    versions(monkeypatch, opencv_python="4.12.0")
    only(
        environment.check_packages(plain),
        WARNS,
        "opencv-python and opencv-python-headless are both installed",
        "pip uninstall -y",
    )
    versions(monkeypatch, opencv_python=None, peft=None)
    only(environment.check_packages(plain), STOPS, "the package peft is not installed", "uv sync")
    versions(monkeypatch, peft="0.3.0")
    only(
        environment.check_packages(plain),
        WARNS,
        "peft 0.3.0 is not what the project asks for (>=0.17)",
        "pip install 'peft>=0.17'",
    )
    versions(monkeypatch, peft="0.21.2", torch="2.15.0+cu130", torchvision="0.29.2+cpu")
    only(
        environment.check_packages(plain),
        STOPS,
        "torch is built for cu130 and torchvision for cpu",
        "both together",
    )
    versions(monkeypatch, torchvision="0.29.2+cu130")
    assert not environment.check_packages(plain).issues
    monkeypatch.setattr(environment, "requires", lambda package: ["numpy", "torch==2.12.1"])
    only(
        environment.check_packages(plain),
        STOPS,
        "was built for torch==2.12.1, but torch 2.15.0+cu130",
        "both together",
    )


def test_the_commit(plain, monkeypatch):
    monkeypatch.setattr(environment, "commit_here", lambda: "0123456789abcdef+")
    assert (
        environment.check_commit(plain).summary == {"commit": "0123456789ab, with changes since"}
        and not environment.check_commit(plain).issues
    )
    monkeypatch.setattr(environment, "commit_here", lambda: None)
    only(environment.check_commit(plain), WARNS, "will name no git commit", "git clone")
