"""Tests of the writer of checkpoints: beside the target, complete before it takes its place."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.errors import UserError
from lightning_modules import checkpoint_writer
from lightning_modules.checkpoint_io import read_checkpoint
from lightning_modules.checkpoint_writer import DurableCheckpointIO, write_tensors
from tests.factories.one_weight import OneWeight, fit_one_weight

CONTENT = {"state_dict": {"a": torch.arange(5.0)}, "epoch": 3, "names": ["x"]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_what_torch_save_writes(tmp_path):
    write_tensors(tmp_path / "a.ckpt", CONTENT)
    torch.save(CONTENT, tmp_path / "b.ckpt")
    for name in ("a.ckpt", "b.ckpt"):
        found = torch.load(tmp_path / name, weights_only=True)
        assert torch.equal(found["state_dict"]["a"], torch.arange(5.0)) and found["epoch"] == 3
    assert names(tmp_path) == ["a.ckpt", "b.ckpt"]


def test_a_full_disk_is_the_system_s_error_and_the_earlier_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    write_tensors(path, CONTENT)

    @contextmanager
    def open_full(path):
        with Path("/dev/full").open("wb", buffering=0) as file:
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "open_atomic", open_full)
        with pytest.raises(OSError, match="No space left") as raised:
            write_tensors(path, {"state_dict": {"a": torch.zeros(100_000)}})
    assert raised.value.errno == errno.ENOSPC
    assert torch.load(path, weights_only=True)["epoch"] == 3


@pytest.mark.parametrize(
    "written",
    [*(pytest.param(size, marks=pytest.mark.slow) for size in (0, 100)), 30_000],
)
def test_a_kill_while_it_writes_leaves_the_earlier_checkpoint(written, tmp_path):
    """The system kills the process when a file grows beyond a limit."""
    path = tmp_path / "last.ckpt"
    write_tensors(path, CONTENT)
    program = (
        "import resource, signal, sys, torch; from pathlib import Path\n"
        "from lightning_modules.checkpoint_writer import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({written}, {written}))\n"
        "write_tensors(Path(sys.argv[1]), {'state_dict': {'a': torch.zeros(100_000)}})"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, env=environment)
    assert ended.returncode < 0
    assert torch.load(path, weights_only=True)["epoch"] == 3


def test_lightning_s_checkpoints_are_written_beside_their_target(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))  # nothing may be written there
    saving = ModelCheckpoint(
        tmp_path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    parts = {"plugins": [DurableCheckpointIO()], "enable_checkpointing": True}
    fit_one_weight(OneWeight(), [saving], epochs=2, batches=50, **parts)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 100
    assert names(tmp_path) == ["last.ckpt"]


def test_a_last_checkpoint_that_cannot_be_read_names_the_best_one(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"the file is empty.*name another file"):
        read_checkpoint(tmp_path / "last.ckpt")
    write_tensors(tmp_path / "best.ckpt", CONTENT)
    with pytest.raises(UserError, match=f"ckpt_path={tmp_path / 'best.ckpt'} "):
        read_checkpoint(tmp_path / "last.ckpt")
