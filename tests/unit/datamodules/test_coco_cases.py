"""Small COCO exports rebuilt from public bug reports, each with what is right."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.brain_tumor import BrainTumorDataModule
from datamodules.errors import ManifestError
from datamodules.own_data import OwnDataModule
from tests.factories.layouts import coco, draw, save

SIZE = (64, 64)
FOLDERS = {"train": "train", "val": "valid", "test": "test"}
Change = Callable[[Path, dict[str, Any]], None]


def write(root: Path, change: Change = lambda folder, content: None, **files: Any) -> list[Any]:
    """Write 24 images with one class as a Roboflow export; `change` edits that of train."""
    items = draw(classes=1, size=SIZE)
    for split, folder in FOLDERS.items():
        some = [item for item in items if item.split == split]
        for item in some:
            save(root / folder / f"{item.name}.png", item.image)
        content = coco(some, ["tumor"], False, lambda item: f"{item.name}.png")
        if split == "train":
            change(root / folder, content)
        text = files.get("prefix", "") + json.dumps(content)
        (root / folder / "_annotations.coco.json").write_text(text, encoding="utf-8")
    return items


def brain(root: Path, **more: Any) -> BrainTumorDataModule:
    return BrainTumorDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), image_size=64, num_workers=0, **more
    )


def own(root: Path, **more: Any) -> OwnDataModule:
    return OwnDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), image_size=64, num_workers=0, **more
    )


def assert_read(root: Path, items: list[Any], left_out: int = 0) -> None:
    """Check both data modules: the masks are those that were drawn."""
    for data in (brain(root, unannotated="negative"), own(root, unannotated="negative")):
        data.prepare_data()
        assert len(data.table) == len(items)
        wrong = 0
        for item in items:
            ids = [n for n, id in enumerate(data.table.rows["id"]) if item.name in id]
            truth = data.cache.truth(ids[0], 1)[..., 0]
            wrong += not np.array_equal(truth, item.labels)
        assert wrong == left_out


def backslashes(folder: Path, content: dict[str, Any]) -> None:
    forms = ["..\\images\\{}", ".\\{}", "train/{}", "{}", "C:\\data\\train\\{}"]
    for n, image in enumerate(content["images"]):
        image["file_name"] = forms[n % len(forms)].format(image["file_name"])


def composed(folder: Path, content: dict[str, Any], on_disk: str, written: str) -> None:
    image = content["images"][0]
    old, new = image["file_name"], f"tumör_{image['file_name']}"
    (folder / old).rename(folder / unicodedata.normalize(on_disk, new))
    image["file_name"] = unicodedata.normalize(written, new)


def strings(folder: Path, content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
        annotation["category_id"] = float(annotation["category_id"])


def floats(folder: Path, content: dict[str, Any]) -> None:
    for image in content["images"]:
        image |= {"height": 64.0, "width": 64.0}


def degenerate(folder: Path, content: dict[str, Any]) -> None:
    for polygon in ([5.0, 5, 9, 9], [1.0, 1, 5, 5, 9, 9], [3.0, 3, 3, 3, 3, 3]):
        content["annotations"][0]["segmentation"].append(polygon)


READ: dict[str, tuple[Change, dict[str, Any]]] = {
    "as exported": (lambda folder, content: None, {}),
    "coco-bom": (lambda folder, content: None, {"prefix": "\ufeff"}),
    "coco-nfd": (lambda folder, content: composed(folder, content, "NFD", "NFC"), {}),
    "coco-nfd reversed": (lambda folder, content: composed(folder, content, "NFC", "NFD"), {}),
    "coco-backslash": (backslashes, {}),
    "coco-strings": (strings, {}),
    "coco-float-size": (floats, {}),
    "coco-degenerate": (degenerate, {}),
}


@pytest.mark.parametrize("case", READ)
def test_it_is_read_as_drawn(case, tmp_path):
    change, files = READ[case]
    items = write(tmp_path / "data", change, **files)
    if "nfd" in case:
        items[0].name = ""  # found by its place alone
        items = items[1:]
        data = own(tmp_path / "data", unannotated="negative")
        data.prepare_data()
        assert len(data.table) == len(items) + 1
        return
    assert_read(tmp_path / "data", items)


def test_degenerate_polygons_are_counted(tmp_path):
    write(tmp_path / "data", degenerate)
    for data in (brain(tmp_path / "data"), own(tmp_path / "data")):
        _ = data.table
        assert data.cleaning["polygon without an area: dropped"] == 3


def unit(part: int) -> Change:
    def change(folder: Path, content: dict[str, Any]) -> None:
        for n, annotation in enumerate(content["annotations"]):
            if n % 3 < part:
                annotation["segmentation"] = [
                    [value / 64 for value in polygon] for polygon in annotation["segmentation"]
                ]

    return change


def test_coco_unit(tmp_path):
    items = write(tmp_path / "data", unit(3))
    for make in (brain, own):
        with pytest.raises(
            ManifestError, match=r"look normalized, .* set datamodule\.normalized=true"
        ):
            _ = make(tmp_path / "data").table
    for split in FOLDERS.values():  # all of the export in fractions
        path = tmp_path / "data" / split / "_annotations.coco.json"
        content = json.loads(path.read_text())
        if split != "train":
            unit(3)(path.parent, content)
            path.write_text(json.dumps(content))
    for make in (brain, own):
        data = make(tmp_path / "data", normalized=True, unannotated="negative")
        data.prepare_data()
        rows = {
            id.rpartition("/")[2].removesuffix(".png"): n
            for n, id in enumerate(data.table.rows["id"])
        }
        assert all(
            np.array_equal(data.cache.truth(rows[item.name], 1)[..., 0], item.labels)
            for item in items
        )


def test_coco_unit_some(tmp_path):
    write(tmp_path / "data", unit(1))
    for make in (brain, own):
        with pytest.raises(
            ManifestError, match=r"of 5 of 13 annotations \(ids 0, 3, 6, 9, 12\) look"
        ):
            _ = make(tmp_path / "data").table
        with pytest.raises(ManifestError, match=r"datamodule\.normalized=true expects fractions"):
            _ = make(tmp_path / "data", normalized=True).table


def two_classes(folder: Path, content: dict[str, Any]) -> None:
    content["categories"].append({"id": 7, "name": "skull"})
    first = content["annotations"][0]
    square = [[40.0, 40, 60, 40, 60, 60, 40, 60]]
    content["annotations"].append(first | {"id": 99, "category_id": 7, "segmentation": square})


def test_coco_two_classes(tmp_path):
    items = write(tmp_path / "data", two_classes)
    with pytest.raises(
        ManifestError,
        match=r"several categories \(skull, tumor\).*datamodule\.categories=\[skull\]",
    ):
        _ = brain(tmp_path / "data").table
    for data in (
        brain(tmp_path / "data", categories=["tumor"], unannotated="negative"),
        own(tmp_path / "data", classes=["tumor"], unannotated="negative"),
    ):
        data.prepare_data()
        row = next(n for n, id in enumerate(data.table.rows["id"]) if items[0].name in id)
        assert np.array_equal(data.cache.truth(row, 1)[..., 0], items[0].labels)
    both = own(tmp_path / "data", unannotated="negative")
    both.prepare_data()
    assert both.table.classes == ("tumor", "skull")
    row = next(n for n, id in enumerate(both.table.rows["id"]) if items[0].name in id)
    assert both.cache.areas[row].tolist() == [int((items[0].labels > 0).sum()), 400]
    with pytest.raises(ManifestError, match=r"module.classes names liver, and .* has tumor, skull"):
        _ = own(tmp_path / "data", classes=["liver"]).table


def test_coco_empty_part(tmp_path):
    def change(folder: Path, content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = [[]]

    items = write(tmp_path / "data", change)
    for make in (brain, own):
        with pytest.raises(
            ManifestError, match=r"is a box without an outline; fill boxes with datamodule\.boxes"
        ):
            _ = make(tmp_path / "data").table
        data = make(tmp_path / "data", boxes="fill", unannotated="negative")
        data.prepare_data()
        assert data.cleaning["box without outline: filled"] == 1
        row = next(n for n, id in enumerate(data.table.rows["id"]) if items[0].name in id)
        rows, columns = (np.flatnonzero(items[0].labels.any(axis)) for axis in (1, 0))
        box = np.zeros(SIZE, np.uint8)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
        assert np.array_equal(data.cache.truth(row, 1)[..., 0], box)


BAD_RLES = {
    "rle-short": ([10, 20], "add up to 30 pixels"),
    "rle-short text": ("05", "add up to"),
    "rle-short empty": ([], "add up to 0 pixels"),
    "rle-long": ([5000], "but a run has 0 to 4096 pixels"),
    "rle-float": ([10.5, 4085.5], "hold 10.5, which is not a whole number"),
    "rle-negative": ([-3, 4099], "hold -3"),
}


@pytest.mark.parametrize("case", BAD_RLES)
def test_run_lengths_that_do_not_fill_their_image_are_refused(case, tmp_path):
    counts, sentence = BAD_RLES[case]

    def change(folder: Path, content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": counts}

    write(tmp_path / "data", change)
    for make in (brain, own):
        with pytest.raises(ManifestError, match=f"annotation 0 of .*{sentence}") as refusal:
            _ = make(tmp_path / "data").table
        assert "_annotations.coco.json" in str(refusal.value)
