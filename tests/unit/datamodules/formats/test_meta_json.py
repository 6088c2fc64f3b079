"""Tests of the meta JSON: entries become rows, contradictions are refused and files round-trip."""

import json

import numpy as np
import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.formats.meta_json import STRATA, is_meta_json, is_valid_crop, write_meta_json
from datamodules.formats.rle import encode_rle
from datamodules.manifest.manifest import Manifest, read_manifest
from datamodules.sampling import strata

ONE = {
    "image_path": "images/a.png",
    "mask_path": "masks/a.png",
    "cropped_mask_path": None,
    "has_pnx": 1,
    "strata": "1_q3",
    "cls_prob": 0.42,
}
NONE = {
    "image_path": "images/b.png",
    "mask_path": None,
    "cropped_mask_path": None,
    "has_pnx": False,
    "strata": "0_none",
}


def meta(tmp_path, content):
    (tmp_path / "meta.json").write_text(json.dumps(content))
    return read_manifest(tmp_path / "meta.json")


def test_a_list_becomes_rows(tmp_path):
    table = meta(tmp_path, [ONE | {"age": 61}, NONE | {"image_path": "/elsewhere/b.png"}])
    rows = table.rows
    assert table.classes == ("pneumothorax",) and table.group_is == "image"
    assert rows["id"].tolist() == ["images/a.png", "/elsewhere/b.png"]
    assert rows["image"].tolist() == [str(tmp_path / "images/a.png"), "/elsewhere/b.png"]
    assert rows["mask"].tolist() == [str(tmp_path / "masks/a.png"), None] and rows[
        "cropped_mask"
    ].tolist() == [None, None]
    assert rows["label"].tolist() == [1, 0] and rows["stratum"].tolist() == ["1_q3", "0_none"]
    assert rows["cls_prob"][0] == 0.42 and np.isnan(rows["cls_prob"][1])
    assert rows["age"][0] == 61 and not {"split", "crop"} & set(rows)
    assert table.rles(1) == [None]


def test_a_dict_names_its_entries(tmp_path):
    more = {"group": 7, "split": "train", "crop": [-3, 4, 20], "cropped_mask_path": "crops/a.png"}
    table = meta(
        tmp_path, {"x": ONE | more, "y": {**NONE, "id": "own", "group": None, "split": "val"}}
    )
    rows = table.rows
    assert (
        rows["id"].tolist() == ["x", "own"]
        and rows["group"].tolist() == ["7", "own"]
        and table.group_is == "patient"
    )
    assert rows["split"].tolist() == ["train", "val"] and rows["crop"].tolist() == [
        [-3, 4, 20],
        None,
    ]
    assert rows["cropped_mask"].tolist() == [str(tmp_path / "crops/a.png"), None]


def test_strata_count_only_where_all_have_them(tmp_path):
    without = {name: value for name, value in NONE.items() if name != "strata"}
    assert "stratum" not in meta(tmp_path, [ONE, without]).rows
    assert STRATA == (strata.NO_LESION, *strata.QUARTILES)


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({**ONE, "image_path": None}, "entry number 2 has no image_path; name"),
        ({**ONE, "has_pnx": 2}, "entry 'images/a.png' has has_pnx=2; write"),
        ({**ONE, "has_pnx": "yes"}, "has_pnx='yes'; write 0, 1"),
        ({**ONE, "has_pnx": None}, "has_pnx=None; write"),
        ({**ONE, "cls_prob": 1.2}, "entry 'images/a.png' has cls_prob=1.2; write"),
        ({**ONE, "cls_prob": "high"}, "cls_prob='high'; write"),
        ({**ONE, "strata": "0_none"}, "strata='0_none' and has_pnx=1; write one of 1_q1"),
        ({**ONE, "strata": "1_q5"}, "strata='1_q5'"),
        ({**NONE, "strata": "1_q1"}, "strata='1_q1' and has_pnx=0; write 0_none"),
        ({**ONE, "mask_path": None}, "entry 'images/a.png' has has_pnx=1 and no mask_path; name"),
        ({**ONE, "mask_path": 3}, "mask_path=3; write the path"),
        ({**ONE, "crop": [0, 0, 0]}, "crop=[0, 0, 0]; write [top, left, side]"),
        ({**ONE, "split": "train"}, "has no split, but others have one; write"),
        ("images/a.png", "entry number 2 is of type str, not an object; write"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path, entry, wrong):
    with pytest.raises(ManifestError) as said:
        meta(tmp_path, [NONE, entry])
    assert (
        wrong in str(said.value)
        and str(tmp_path / "meta.json") in str(said.value)
        and "\n" not in str(said.value)
    )


def test_other_json_is_told_apart(tmp_path):
    rows = pd.DataFrame({"id": ["a"], "image": ["a.png"]})
    written = Manifest(rows).write(tmp_path / "manifest.json")
    assert not is_meta_json(json.loads(written.read_text())) and read_manifest(written).rows[
        "id"
    ].tolist() == ["a"]
    assert (
        not is_meta_json([])
        and not is_meta_json(["a"])
        and not is_meta_json(3)
        and is_meta_json({"a": ONE})
    )
    assert (
        is_valid_crop([0, -2, 3])
        and not is_valid_crop([0, 0, 0])
        and not is_valid_crop([0, 1.5, 3])
        and not is_valid_crop(None)
    )
    with pytest.raises(ManifestError, match="should be a valid dictionary"):
        meta(tmp_path, [])


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_what_is_written_reads_back(tmp_path, suffix):
    more = {"group": "p1", "split": "train", "crop": [1, 2, 3], "cropped_mask_path": "crops/a.png"}
    table = meta(tmp_path, [ONE | more, {**NONE, "split": "val", "image_path": "/elsewhere/b.png"}])
    again = read_manifest(
        write_meta_json(table.rows, table.group_is == "patient", tmp_path / "again.json")
    )
    assert (
        again.group_is == "patient"
        and json.loads((tmp_path / "again.json").read_text())[0]["image_path"] == "images/a.png"
    )
    columns = sorted(table.rows)
    pd.testing.assert_frame_equal(again.rows[columns], table.rows[columns])
    third = read_manifest(table.write(tmp_path / f"third.{suffix}")).rows
    assert third["crop"].tolist() == [[1, 2, 3], None] and third["cropped_mask"].tolist() == [
        str(tmp_path / "crops/a.png"),
        None,
    ]


def test_an_rle_is_no_file(tmp_path):
    rows = pd.DataFrame(
        {"id": ["a"], "image": ["a.png"], "mask": [encode_rle(np.ones((2, 2, 1), np.uint8))]}
    )
    with pytest.raises(ManifestError, match=r"mask of 'a' is an RLE.*do=\[export\]"):
        write_meta_json(rows, False, tmp_path / "meta.json")
