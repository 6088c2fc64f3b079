"""The wheel: one name in site-packages, with everything that a run needs from any folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND = """
import json, sys, medical_lightning
light = not {"torch", "lightning", "hydra"} & set(sys.modules)
import callbacks, engine, run
files = [module.__file__ for module in (medical_lightning, callbacks, engine, run)]
names = medical_lightning.run.__name__, medical_lightning.RunFolder.__name__
print(json.dumps([light, files, *names]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def call(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Python in a folder that is not the clone, with the wheel on its path."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_one_name_and_every_file_of_the_repository_that_a_run_reads(installed):
    names = {path.name.partition("-")[0] for path in installed.iterdir()}
    assert names == {"medical_lightning"}
    inside = installed / "medical_lightning/_packages"
    ours = {
        path.relative_to(ROOT)
        for part in inside.iterdir()
        for path in [ROOT / part.name, *(ROOT / part.name).rglob("*")]
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert len(ours) > 300 and {"conf", "reporting"} <= {path.parts[0] for path in ours}
    assert {path for path in ours if not (inside / path).is_file()} == set()
    assert {path.name for path in inside.iterdir()} >= {"run.py", "conf", "hydra_plugins"}


def test_the_public_names_come_from_the_wheel_and_import_nothing_heavy(installed, tmp_path):
    done = call(installed, tmp_path, "-c", FOUND)
    assert done.returncode == 0, done.stderr
    light, files, *names = json.loads(done.stdout)
    assert light and all(Path(file).is_relative_to(installed) for file in files)
    assert names == ["run", "RunFolder"]


def test_another_package_of_a_common_name_is_refused_and_not_mixed_up(installed, tmp_path):
    (tmp_path / "callbacks.py").touch()
    done = call(installed, tmp_path, "-c", "import callbacks, medical_lightning")
    assert done.returncode == 1 and "import medical_lightning first" in done.stderr


def test_the_users_conf_is_read_and_the_help_names_the_command(installed, tmp_path):
    own = tmp_path / "conf/experiment/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "# @package _global_\n# An experiment of my own.\n"
        "defaults: [/experiment/demo@_global_, _self_]\nimage_size: 192\n"
    )
    said = call(installed, tmp_path, "-m", "medical_lightning", "--help").stdout
    assert (
        said.startswith("medical-lightning experiment=NAME") and "An experiment of my own" in said
    )
    done = call(installed, tmp_path, "-m", "medical_lightning", "experiment=mine", "--cfg", "job")
    assert done.returncode == 0 and "image_size: 192" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_run_leaves_its_report_in_the_working_folder(installed, tmp_path):
    words = ["experiment=demo", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    done = call(installed, tmp_path, "-m", "medical_lightning", *words)
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("runs/demo/*/report.html")
    report = json.loads((page.parent / "report.json").read_text())
    assert report["commit"] is None and report["scores"]["test"]
    assert not list((installed / "medical_lightning").rglob("runs"))
