"""Tests of the manifest: checks, RLE masks and files that read back as written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datamodules.errors import ManifestError
from datamodules.formats.rle import decode_rle, encode_rle
from datamodules.manifest.manifest import Manifest, read_manifest

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3))
masks = shapes.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)))


@given(masks)
def test_rle_gives_the_mask_back(mask):
    assert np.array_equal(decode_rle(encode_rle(mask), *mask.shape[:2]), mask)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_written_manifest_reads_back(tmp_path, suffix):
    mask = np.zeros((5, 7, 2), np.uint8)
    mask[1:3, 2:6, 0] = 1
    rows = pd.DataFrame(
        {
            "id": ["001", "b,2"],
            "image": [str(tmp_path / "001.png"), str(tmp_path / "b.png")],
            "group": ["007", "8"],
            "mask": pd.Series([encode_rle(mask), None], dtype=object),
            "split": ["train", "val"],
            "age": [61, 40],
        }
    )
    again = read_manifest(Manifest(rows, ("a", "b"), "patient").write(tmp_path / f"m{suffix}"))
    assert again.classes == ("a", "b") and again.group_is == "patient"
    assert again.rows["id"].tolist() == ["001", "b,2"] and again.rows["group"].tolist() == [
        "007",
        "8",
    ]
    assert np.array_equal(decode_rle(again.rles(0), 5, 7), mask) and again.rles(1) == [None, None]
    assert again.rows["age"].tolist() == [61, 40]


def test_a_plain_csv_with_relative_paths_is_a_manifest(tmp_path):
    (tmp_path / "m.csv").write_text("id,image,mask\na,images/a.png,masks/a.png\nb,images/b.png,\n")
    table = read_manifest(tmp_path / "m.csv")
    assert table.rows["image"].tolist() == [
        str(tmp_path / "images/a.png"),
        str(tmp_path / "images/b.png"),
    ]
    assert table.rows["group"].tolist() == ["a", "b"] and table.rles(1) == [None]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("name,image\na,b\n", "no column 'id'"),
        ("id,image\na,x.png\na,y.png\n", "id 'a' occurs 2 times"),
        ("id,image,split\na,x.png,training\n", "split 'training'"),
        ('#{"version": 99}\nid,image\na,x.png\n', "version 99"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, wrong):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=wrong):
        read_manifest(tmp_path / "m.csv")
