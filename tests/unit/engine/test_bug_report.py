"""What no sentence explains is a bug: one sentence, exit code 70, and the traceback in a file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import run
from engine.bug_report import EXIT_CODE
from engine.umask import narrow_umask


def fail():
    raise ValueError("two\nlines")


def test_a_bug_is_one_sentence_with_its_traceback_in_a_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        run.run_or_exit(fail)
    said = capsys.readouterr().err
    assert ended.value.code == EXIT_CODE == 70
    found = re.fullmatch(
        r"this is a bug: ValueError: two lines; please report it with (\S+)\n", said
    )
    assert found, said
    text = Path(found[1]).read_text()
    assert "Traceback (most recent call last)" in text and 'raise ValueError("two' in text


@pytest.mark.parametrize("word", ["debug=overfit", "variable"])
def test_a_debug_mode_shows_the_traceback_too(word, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["run.py", word])
    if word == "variable":
        monkeypatch.setenv("MEDICAL_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        run.run_or_exit(fail)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_is_no_bug():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run_or_exit(stop)


def test_the_traceback_goes_into_run_log(tmp_path):
    script = (
        "import engine.tasks, run\n"
        "def fail(cfg): raise ValueError('odd')\n"
        "engine.tasks.run_task = fail\n"
        "run.main()\n"
    )
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", script, f"hydra.run.dir={folder}"],
        capture_output=True,
        text=True,
        cwd=Path(run.__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(run.__file__).parent)},
    )
    assert done.returncode == 70, done.stderr
    assert done.stderr.strip().endswith(
        f"this is a bug: ValueError: odd; please report it with {folder}/run.log"
    )
    assert "Traceback (most recent call last)" in (folder / "run.log").read_text()
    assert "Traceback" not in done.stderr


def test_files_of_a_run_are_not_writable_by_others(tmp_path):
    before = os.umask(0)
    try:
        with narrow_umask():
            (tmp_path / "file").write_text("a")
            (tmp_path / "folder").mkdir()
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
        assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755
        assert os.umask(0) == 0
        os.umask(0o077)
        with narrow_umask():
            (tmp_path / "private").write_text("a")
        assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "words",
    [[], pytest.param(["-m", "seed=0,1"], marks=pytest.mark.slow)],
    ids=["run", "sweep"],
)
def test_files_of_a_private_run_are_for_nobody_else(words, tmp_path):
    place, runs = "sweep" if words else "run", tmp_path / "runs"
    done = subprocess.run(
        [
            *(sys.executable, "run.py", "private=true", *words),
            *("experiment=unetpp_brain_tumor", "datamodule.root=/nonexistent"),
            *(f"hydra.{place}.dir={runs / 'a'}", f"paths.runs={runs}"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(run.__file__).parent,
    )
    made = [runs / "a", *(runs / "a").rglob("*")]
    assert len(made) > 4, done.stderr
    assert not [path for path in made if path.stat().st_mode & 0o077]
    assert runs.stat().st_mode & 0o055 == 0o055  # others may have their runs there
