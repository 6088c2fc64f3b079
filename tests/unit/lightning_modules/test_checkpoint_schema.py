"""Checkpoints are checked by checksums, schema and numbers before they are used."""

import os
import zipfile

import pytest
import torch

from callbacks.checkpointing import own_checkpoints
from datamodules.errors import UserError
from lightning_modules.checkpoint_io import read_checkpoint
from lightning_modules.checkpoint_schema import (
    check_complete,
    check_record,
    find_damage,
    is_finite,
)

RECORD = {
    "version": 1,
    "content": ["a"],
    "ids": ["b"],
    "allow_leaks": False,
    "classes": ["lesion"],
    "exclusive": False,
    "channels": 1,
}


def write(path, **changes):
    content = {"state_dict": {"net.weight": torch.zeros(64, 64)}, "training_record": RECORD}
    torch.save(content | changes, path)
    return path


def test_a_whole_checkpoint_is_read(tmp_path):
    path = write(tmp_path / "a.ckpt")
    assert find_damage(path) == ""
    assert check_record(read_checkpoint(path), path) == RECORD


def test_a_flipped_bit_is_found_by_its_checksum(tmp_path):
    path = write(tmp_path / "a.ckpt")
    data = bytearray(path.read_bytes())
    data[data.index(bytes(1000)) + 500] ^= 4  # within the zeros of the weights
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.ckpt cannot be read.*checksum"):
        read_checkpoint(path)


def test_a_checkpoint_that_was_replaced_is_checked_again(tmp_path):
    path = write(tmp_path / "a.ckpt")
    read_checkpoint(path)
    os.truncate(path, 1000)
    with pytest.raises(UserError, match=r"a\.ckpt cannot be read"):
        read_checkpoint(path)


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path):
    path = write(tmp_path / "a.ckpt")
    with zipfile.ZipFile(path) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    with pytest.raises(UserError, match="compressed, as torch"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state_dict": None}, r"state_dict=None"),
        ({"state_dict": {"a": [1.0]}}, "has a list in place of the weights 'a'"),
        ({"state_dict": {"a": torch.tensor([float("nan")])}}, "'a' holds numbers .* not finite"),
        ({"state_dict": {"a": torch.zeros(1).expand(2**40)}}, "says that it has"),
        ({"state_dict": {"a": torch.zeros(2, dtype=torch.complex64)}}, "complex64"),
        ({"state_dict": {"a": torch.eye(3).to_sparse()}}, "damaged|sparse"),
        ({"state_dict": {"normalize.std": torch.zeros(1)}}, "standard deviation of 0"),
        ({"epoch": "three"}, "epoch='three'"),
        ({"training_record": RECORD | {"classes": []}}, "training_record.classes"),
        ({"training_record": RECORD | {"channels": 10**400}}, "training_record.channels"),
        ({"training_record": RECORD | {"version": 2}}, "training_record.version"),
        ({"training_record": RECORD | {"window": {"range": [1, float("inf")]}}}, "window.range"),
        ({"settings": [1]}, "settings"),
    ],
)
def test_wrong_content_is_refused_by_its_key(changes, said, tmp_path):
    path = write(tmp_path / "a.ckpt", **changes)
    with pytest.raises(UserError, match=rf"a\.ckpt.*{said}"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "empty"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / "a.ckpt"
    make = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "empty": path.touch,
    }
    make[kind]()
    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_a_record_without_images_is_refused(tmp_path):
    record = {key: value for key, value in RECORD.items() if key != "ids"}
    path = write(tmp_path / "a.ckpt", training_record=record)
    with pytest.raises(UserError, match="training_record without 'ids'"):
        check_record(read_checkpoint(path), path)


def test_a_fit_needs_the_whole_state(tmp_path):
    whole = {
        "epoch": 1,
        "global_step": 2,
        "loops": {"fit_loop": {}},
        "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{}]}],
        "lr_schedulers": [],
    }
    path = tmp_path / "a.ckpt"
    check_complete(whole, path)
    with pytest.raises(UserError, match=r"no optimizer_states.*init_from="):
        check_complete(whole | {"optimizer_states": []}, path)
    whole["optimizer_states"][0]["state"][0]["exp_avg"].fill_(float("inf"))
    with pytest.raises(UserError, match=r"optimizer_states\.0\.0\.exp_avg"):
        check_complete(whole, path)


def test_only_checkpoints_beside_the_checkpoint_are_its_best_ones(tmp_path):
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / "best.ckpt").write_text("weights")
    (folder / "notes.txt").write_text("text")
    (tmp_path / "secret.ckpt").write_text("secret")
    named = {
        str(tmp_path / "secret.ckpt"): 1,
        "/etc/passwd": 2,
        str(folder / "notes.txt"): 3,
        "../../secret.ckpt": 4,
        "/moved/run/checkpoints/best.ckpt": 5,
    }
    found = own_checkpoints({"best_k_models": named}, folder)
    assert found == {"/moved/run/checkpoints/best.ckpt": folder / "best.ckpt"}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_whose_sum_is_not_finite_may_all_be_finite(kind):
    large = torch.full((1000,), torch.finfo(kind).max, dtype=kind)
    assert is_finite(large) and is_finite(-large) and is_finite(torch.tensor([7]))
    for odd in (float("nan"), float("inf"), -float("inf")):
        for value in (large, torch.zeros(1000, dtype=kind)):
            value = value.clone()
            value[17] = odd
            assert not is_finite(value)
    assert not is_finite(torch.tensor([float("inf"), -float("inf")], dtype=kind))
