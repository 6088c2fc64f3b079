"""Tests of bad input: exit code, one sentence naming file and fix, no step, data untouched."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from reporting.outcome import Outcome, read_outcome, write_outcome
from tests.conftest import SMALL, refused

JSON = "train/_annotations.coco.json"


def edit(root: Path, change) -> None:
    path = root / JSON
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first_image(root: Path) -> Path:
    return root / "train" / json.loads((root / JSON).read_text())["images"][0]["file_name"]


def polygon(root: Path, points: list) -> None:
    edit(root, lambda c: c["annotations"][1].update(segmentation=[points]))


def rename(root: Path, name: str) -> None:
    edit(root, lambda c: c["images"][0].update(file_name=name))


def symlink_out(root: Path) -> None:
    outside = root.parent / "outside.jpg"
    shutil.move(first_image(root), outside)
    first_image(root).symlink_to(outside)


def bomb(root: Path) -> None:
    first_image(root).write_bytes(b"P5 60000 60000 255\n" + b"\0" * 64)


def truncate(root: Path) -> None:
    path = first_image(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_size(root: Path) -> None:
    cv2.imwrite(str(first_image(root)), np.zeros((50, 60), np.uint8))


def no_positive(root: Path) -> None:
    path = root / "test/_annotations.coco.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))


def same_file_twice(root: Path) -> None:
    path = root / "valid/_annotations.coco.json"
    content = json.loads(path.read_text())
    (root / "valid" / content["images"][0]["file_name"]).write_bytes(first_image(root).read_bytes())


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


BAD_DATA = {
    "missing root": (shutil.rmtree, "{root} is not a folder", "DATA_ROOT"),
    "empty root": (empty, "{root} is an empty folder", "datamodule.root"),
    "no annotation file": (
        lambda r: (r / JSON).unlink(),
        "{root}/" + JSON + " does not exist",
        "export",
    ),
    "no split folder": (
        lambda r: shutil.rmtree(r / "valid"),
        "{root} has no folder valid or val",
        "train/ valid/ test/",
    ),
    "malformed JSON": (
        lambda r: (r / JSON).write_text('{"images": ['),
        JSON + " is not valid JSON",
        "export",
    ),
    "not COCO": (lambda r: (r / JSON).write_text("[]"), JSON + " has no list 'images'", "COCO"),
    "name leaves the folder": (
        lambda r: rename(r, "../../secret.jpg"),
        "'../../secret.jpg' leaves the folder",
        "correct the name",
    ),
    "absolute name": (
        lambda r: rename(r, "/etc/passwd"),
        "'/etc/passwd' leaves the folder",
        "correct the name",
    ),
    "symlink out": (symlink_out, "leaves the folder", "correct the name"),
    "listed image missing": (
        lambda r: first_image(r).unlink(),
        "{first} does not exist",
        "restore",
    ),
    "truncated": (truncate, "{first} cannot be decoded", "replace"),
    "not an image": (
        lambda r: first_image(r).write_text("hello"),
        "{first} is not an image",
        "replace",
    ),
    "decompression bomb": (
        bomb,
        "{first} has a header size above the limit of 100,000,000 pixels",
        "remove",
    ),
    "other size than annotated": (
        other_size,
        "{first} is 50 x 60 pixels, but its annotation says 96 x 96",
        "export",
    ),
    "polygon far outside": (
        lambda r: polygon(r, [5, 5, 120, 5, 5, 40]),
        "24.0 pixels outside",
        "correct",
    ),
    "polygon of five numbers": (
        lambda r: polygon(r, [5, 5, 9, 9, 4]),
        "x and y in turn",
        "correct",
    ),
    "polygon with NaN": (
        lambda r: polygon(r, [5, 5, float("nan"), 5, 5, 40]),
        "not a finite number",
        "correct",
    ),
    "RLE of 30 pixels": (
        lambda r: edit(
            r,
            lambda c: c["annotations"][1].update(
                segmentation={"size": [96, 96], "counts": [10, 20]}
            ),
        ),
        (
            "has an RLE that cannot be used: the runs of the RLE add up to 30 pixels, and a 96 x 96"
            " image has 9216"
        ),
        "export the annotation again",
    ),
    "RLE with a fraction": (
        lambda r: edit(
            r,
            lambda c: c["annotations"][1].update(
                segmentation={"size": [96, 96], "counts": [10.5, 9205.5]}
            ),
        ),
        JSON + ": annotation 1 of '",
        "hold 10.5, which is not a whole number; export the annotation again",
    ),
    "box only": (
        lambda r: edit(r, lambda c: c["annotations"][1].update(segmentation=[])),
        "a box without an outline",
        "datamodule.boxes=fill",
    ),
    "duplicate image id": (
        lambda r: edit(r, lambda c: c["images"][1].update(id=0)),
        "id 0 occurs twice in 'images'",
        "renumber",
    ),
    "duplicate annotation id": (
        lambda r: edit(r, lambda c: c["annotations"][1].update(id=0)),
        "id 0 occurs twice in 'annotations'",
        "renumber",
    ),
    "unknown category": (
        lambda r: edit(r, lambda c: c["annotations"][0].update(category_id=9)),
        "unknown category 9",
        "add it",
    ),
    "unknown image": (
        lambda r: edit(r, lambda c: c["annotations"][0].update(image_id=999)),
        "names image 999",
        "remove it",
    ),
    "no positive image": (
        no_positive,
        "{root}: no image of split test has a mask",
        "datamodule.split=group",
    ),
    "same file on two sides": (
        same_file_twice,
        "the same file content is in",
        "datamodule.allow_leaks=true",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused(name, export, refuses_spoilt):
    spoil, wrong, mend = BAD_DATA[name]
    first = "{root}/" + str(first_image(export).relative_to(export))
    refuses_spoilt(
        [*SMALL, "trainer.max_epochs=1"], export, spoil, wrong.replace("{first}", first), mend
    )


BAD_WORDS = {
    "unknown step": (["do=[fitt]"], "do=[fitt] is unknown", "choose from fit, test"),
    "typo": (
        ["trainer.max_epoch=3"],
        "trainer.max_epoch is not a key",
        "did you mean trainer.max_epochs?",
    ),
    "unknown experiment": (["experiment=unet"], "unet", "unetpp_brain_tumor"),
    "size": (["image_size=100"], "image_size=100 is not a multiple of 32", "try 96"),
    "order": (["do=[test,fit]"], "do=[test,fit]", "set do=[fit,test]"),
    "test of nothing": (["do=[test]"], "do=[test] needs a trained network", "ckpt_path"),
    "folds from one checkpoint": (["folds=2", "ckpt_path=x"], "folds=2 makes 2 fits", "fold=i"),
    "one fold": (["folds=1"], "folds=1", "folds=2"),
    "fold": (["folds=3", "fold=3"], "fold=3 is not one of the 3 folds", "fold=0"),
    "no checkpoint": (["ckpt_path=/nowhere"], "/nowhere does not exist", "name a .ckpt"),
    "classes": (["module.classes=[a]"], "module.classes=['a']", "set module.classes"),
    "weights": (
        ["module.net.encoder.weights=imagenet"],
        "cannot be fetched",
        "module.net.encoder.weights=null",
    ),
    "local weights": (
        ["module.net.encoder.weights=/nowhere/r18.pt"],
        "/nowhere/r18.pt is not a file",
        "null",
    ),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_refused(name, cli, export, steps):
    words, wrong, mend = BAD_WORDS[name]
    code, said = cli(*SMALL, f"datamodule.root={export}", "trainer.max_epochs=1", *words)
    refused(code, said, steps, wrong, mend)


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "cut off", "objects", "no state", "another net"]
)
def test_a_checkpoint_that_does_not_fit_is_refused(kind, cli, export, tmp_path, steps):
    path = tmp_path / "x.ckpt"
    if kind in ("garbage", "empty"):
        path.write_bytes(b"not a checkpoint" if kind == "garbage" else b"")
    elif kind == "cut off":
        torch.save({"state_dict": {"net.conv.weight": torch.zeros(999)}}, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "objects":
        torch.save({"state_dict": {}, "path": tmp_path}, path)
    else:
        torch.save(
            (
                {"weights": 1}
                if kind == "no state"
                else {"state_dict": {"net.conv.weight": torch.zeros(1)}}
            ),
            path,
        )
    wrong = {
        "garbage": "cannot be read as a checkpoint (no file of torch.save)",
        "empty": "cannot be read as a checkpoint (the file is empty)",
        "cut off": "cannot be read as a checkpoint (the file is damaged or incomplete)",
        "objects": "cannot be read as a checkpoint (it holds Python objects, which may run code;",
        "no state": "not a checkpoint",
        "another net": "another network",
    }[kind]
    code, said = cli(*SMALL, f"datamodule.root={export}", f"init_from={path}")
    refused(
        code, said, steps, wrong, "module.net" if kind == "another net" else "name another file"
    )
    assert str(path) in said


def test_a_refused_run_leaves_its_reason_and_changes_none_that_is_there(cli, tmp_path):
    run = tmp_path / "run"
    code, said = cli(*SMALL, "datamodule.root=/nowhere")
    assert code == 2
    outcome = read_outcome(run)
    assert outcome.status == "failed" and outcome.failure == said.strip().splitlines()[-1]
    write_outcome(run, Outcome(status="finished", score=0.5))
    code, said = cli(*SMALL, "datamodule.root=/nowhere")
    assert code == 2 and read_outcome(run) == Outcome(status="finished", score=0.5)


def test_a_loss_that_is_no_number_stops_with_the_last_images(cli, export, tmp_path):
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        "module.optimizer.lr=1e30",
        "trainer.max_epochs=5",
        "callbacks.nonfinite_loss.check_every_n_steps=2",
    )
    assert (
        code == 2
        and "not a finite number" in said
        and "train/p" in said
        and "module.optimizer.lr" in said
    )


def test_a_symlinked_root_is_fine(cli, export, tmp_path):
    (tmp_path / "link").symlink_to(export)
    code, said = cli(*SMALL, f"datamodule.root={tmp_path / 'link'}", "trainer.fast_dev_run=true")
    assert code == 0, said


def test_pictures_of_any_mode_are_read(tmp_path):
    from datamodules.formats.image_io import read_image

    for mode in ("L", "RGB", "RGBA", "P", "1", "I;16", "CMYK"):
        path = tmp_path / f"{mode.replace(';', '')}.tif"
        (
            Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000).save(path)
            if mode == "I;16"
            else Image.new(mode, (8, 6)).save(path)
        )
        assert read_image(path, 1).shape == (6, 8, 1) and read_image(path, 3).shape == (6, 8, 3)
        assert read_image(path, 1).dtype == np.uint8
