"""Tests of do=[export]: any data set becomes PNGs and a meta JSON; the source is untouched."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.errors import ManifestError, UserError
from datamodules.formats.file_names import safe_file_names
from datamodules.preparation.export import export_dataset
from tests.conftest import folder_hash
from tests.unit.datamodules.preparation.conftest import N, module


def test_what_is_exported_loads_again(root, tmp_path):
    before, data = folder_hash(root), module(root)
    folder = export_dataset(data, tmp_path / "out" / "small", 40)
    again = module(folder, "meta.json", image_size=32)
    again.prepare_data()
    rows = again.table.rows
    assert (
        rows["id"].tolist() == data.table.rows["id"].tolist() and again.table.group_is == "patient"
    )
    assert (
        rows["split"].tolist() == data.table.rows["split"].tolist()
        and rows["group"].tolist() == data.table.rows["group"].tolist()
    )
    assert rows["label"].tolist() == [int(n % 3 > 0) for n in range(N)]
    assert np.allclose(rows["cls_prob"], data.table.rows["cls_prob"], equal_nan=True)
    assert again.cache.sizes[:].tolist() == [[30, 40]] * N and again.cache.areas[
        17
    ] == pytest.approx(18 * 36 / 4, rel=0.15)
    assert folder_hash(root) == before and not list(folder.parent.glob("*.tmp"))


def test_strata_are_quartiles_of_train(root, tmp_path):
    entries = json.loads(
        (export_dataset(module(root), tmp_path / "out", None) / "meta.json").read_text()
    )
    strata = [entry["strata"] for entry in entries]
    assert strata[::3] == ["0_none"] * 6 and strata[1:6] == [
        "1_q1",
        "1_q1",
        "0_none",
        "1_q1",
        "1_q1",
    ]
    assert strata[7] == "1_q1" and strata[17] == "1_q4" and strata[6:].count("1_q4") == 2


def test_none_keeps_pixels_and_masks_as_they_are(root, tmp_path):
    folder = export_dataset(module(root), tmp_path / "out", None)
    entries = json.loads((folder / "meta.json").read_text())
    assert (
        entries[3]["mask_path"] is None
        and entries[4]["image_path"] == "images/a_4.png"
        and entries[4]["cls_prob"] is None
    )
    image, mask = (
        np.asarray(Image.open(folder / entries[4][key])) for key in ("image_path", "mask_path")
    )
    assert np.array_equal(image, np.asarray(Image.open(root / "images" / "4.png")))
    assert (
        set(np.unique(mask)) == {0, 255} and (mask > 0).sum() == 5 * 10 and mask.shape == (60, 80)
    )
    assert len(list((folder / "masks").iterdir())) == N * 2 // 3


def test_a_tiny_lesion_survives(root, tmp_path):
    folder = export_dataset(module(root), tmp_path / "out", 8)
    for entry in json.loads((folder / "meta.json").read_text()):
        if entry["has_pnx"]:
            assert (np.asarray(Image.open(folder / entry["mask_path"])) > 0).any()


def test_names_are_safe_and_unique():
    names = safe_file_names(["a/b", "a b", "A_B", "../x", "", "é", "n" * 300])
    assert len({name.lower() for name in names}) == 7 and not any(
        "/" in name or name.startswith(".") or len(name) > 140 for name in names
    )


def test_a_folder_that_cannot_be_is_refused(root, tmp_path):
    before = folder_hash(root)
    for folder in (root, root / "out", root.parent / "x" / ".." / "data" / "out"):
        with pytest.raises(
            UserError, match="where nothing is ever written; name a folder elsewhere"
        ):
            export_dataset(module(root), folder, 32)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for folder in (tmp_path / "full", tmp_path / "full" / "file"):
        with pytest.raises(
            UserError, match="exists already and is not an empty folder; name another"
        ):
            export_dataset(module(root), folder, 32)
    with pytest.raises(UserError, match="cannot be created"):
        export_dataset(module(root), tmp_path / "full" / "file" / "out", 32)
    with pytest.raises(UserError, match=r"preparation\.size=0 is not allowed"):
        export_dataset(module(root), tmp_path / "out", 0)
    (tmp_path / "empty").mkdir()
    assert (
        export_dataset(module(root), tmp_path / "empty", 32) / "meta.json"
    ).is_file() and folder_hash(root) == before


def test_nothing_half_written_stays(root, tmp_path):
    (root / "images" / "9.png").write_bytes(b"broken")
    with pytest.raises(ManifestError, match=r"9\.png"):
        export_dataset(module(root), tmp_path / "out", 32)
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "cache"}


def test_other_tasks_are_refused(root, tmp_path):
    with pytest.raises(ManifestError, match="this data set has a, b; choose one"):
        export_dataset(module(root, classes=["a", "b"]), tmp_path / "out", 32)
    rows = json.loads((root / "manifest.json").read_text())["rows"]
    pd.DataFrame(rows).drop(columns="mask").to_csv(root / "labels.csv", index=False)
    with pytest.raises(
        ManifestError, match=r"do=\[export\] writes masks, and this data set has none"
    ):
        export_dataset(module(root, "labels.csv"), tmp_path / "out", 32)
