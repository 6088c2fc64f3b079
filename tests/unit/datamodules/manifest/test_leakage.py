"""Tests of the leak check against re-encoded, mirrored, rotated and brightened copies."""

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.manifest.leakage import (
    check_leakage,
    find_near_duplicates,
    make_thumbnail,
    merge_near_duplicate_groups,
)
from datamodules.phantoms.brain_tumor import draw_slice


def table(groups: list[str], splits: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": [f"i{k}" for k in range(len(groups))], "group": groups, "split": splits}
    )


def test_a_group_on_two_sides_is_named():
    with pytest.raises(ManifestError, match=r"group 'p1' is in i0 \(train\) and i2 \(val\)"):
        check_leakage(
            table(["p1", "p2", "p1"], ["train", "train", "val"]),
            np.array([b"a", b"b", b"c"]),
            allow_leaks=False,
        )


def test_the_same_content_on_two_sides_is_named_or_reported():
    rows, digest = table(["1", "2", "3"], ["train", "test", "test"]), np.array([b"a", b"a", b"c"])
    with pytest.raises(
        ManifestError, match=r"the same file content is in i0 \(train\) and i1 \(test\)"
    ):
        check_leakage(rows, digest, allow_leaks=False)
    assert len(check_leakage(rows, digest, allow_leaks=True)) == 1
    assert check_leakage(table(["1", "1"], ["train", "train"]), digest[:2], allow_leaks=False) == []


def test_planted_copies_are_found_and_others_are_not():
    random = np.random.default_rng(0)
    train = [draw_slice(random, 160).image for _ in range(40)]
    jpeg = cv2.imdecode(
        cv2.imencode(".jpg", train[0], [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE
    )
    planted = [
        jpeg,
        train[1][:, ::-1],
        np.rot90(train[2]),
        np.clip(train[3] * 0.9 + 12, 0, 255).astype(np.uint8),
        cv2.resize(train[4], (96, 96)),
    ]
    others = [draw_slice(random, 160).image for _ in range(40)]
    thumbnails = np.stack(
        [make_thumbnail(np.ascontiguousarray(image)) for image in [*train, *planted, *others]]
    )
    rows = table([str(i) for i in range(85)], ["train"] * 40 + ["val"] * 45)
    found = {
        frozenset((pair.first, pair.second)): pair.turned
        for pair in find_near_duplicates(rows, thumbnails)
    }
    assert set(found) == {frozenset((f"i{k}", f"i{40 + k}")) for k in range(5)}
    assert (
        found[frozenset(("i1", "i41"))] == "mirrored"
        and "degrees" in found[frozenset(("i2", "i42"))]
    )


def test_look_alikes_are_joined_with_their_groups():
    random = np.random.default_rng(1)
    one, two, three = (draw_slice(random, 160).image for _ in range(3))
    pictures = [
        one,
        two,
        np.ascontiguousarray(one[::-1]),
        three,
        np.ascontiguousarray(np.rot90(three)),
    ]
    rows = table(["a", "b", "c", "c", "d"], ["train"] * 5)
    assert merge_near_duplicate_groups(
        rows, np.stack([make_thumbnail(p) for p in pictures])
    ).tolist() == [
        "a",
        "b",
        "a",
        "a",
        "a",
    ]
