"""Tests of the leak check against re-encoded, mirrored, rotated and brightened copies."""

import itertools

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.manifest import leakage
from datamodules.manifest.leakage import (
    MAX_HASH_DISTANCE,
    MIN_CORRELATION,
    cached_near_duplicates,
    check_leakage,
    find_near_duplicates,
    make_thumbnail,
    merge_near_duplicate_groups,
    perceptual_hash,
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


def alike(n: int = 54) -> np.ndarray:
    """Smooth thumbnails of which many are copies of others, some turned, all a little noisy."""
    random = np.random.default_rng(3)
    smooth = [cv2.GaussianBlur(random.normal(size=(32, 32)), (0, 0), 4) for _ in range(n // 3)]
    turned = [np.rot90(smooth[k % len(smooth)], k % 4)[:, :: 1 - 2 * (k % 2)] for k in range(n)]
    noisy = [
        128 + 40 * picture / picture.std() + 4 * random.normal(size=(32, 32)) for picture in turned
    ]
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("alone", [False, True])
def test_pairs_are_those_of_all_pairs_compared_one_by_one(alone, monkeypatch):
    monkeypatch.setattr(leakage, "BLOCK_ROWS", 7)
    monkeypatch.setattr(leakage, "BLOCK_COLUMNS", 11)
    monkeypatch.setattr(leakage, "PAIR_BLOCK", 5)
    thumbnails = alike()
    three = [("train", "val", "test")[(k + k // 18) % 3] for k in range(54)]
    splits = [f"{k:03d}" for k in range(54)] if alone else three
    rows = table([str(k) for k in range(54)], splits)
    by_hand = {}
    for i, j in itertools.permutations(range(54), 2):
        if splits[i] >= splits[j]:
            continue
        for quarter, mirrored in itertools.product(range(4), (False, True)):
            other = np.rot90(thumbnails[j], quarter)
            other = np.ascontiguousarray(other[:, ::-1] if mirrored else other)
            bits = perceptual_hash(np.stack([thumbnails[i], other]))
            correlation = np.corrcoef(thumbnails[i].ravel(), other.ravel())[0, 1]
            if int(bits[0] ^ bits[1]).bit_count() <= MAX_HASH_DISTANCE:
                if correlation >= MIN_CORRELATION:
                    by_hand[i, j] = max(by_hand.get((i, j), 0), correlation)
    found = find_near_duplicates(rows, thumbnails)
    assert len(by_hand) > 30 and len(found) == len(by_hand)
    assert {(int(p.first[1:]), int(p.second[1:])): p.correlation for p in found} == pytest.approx(
        by_hand, abs=1e-5
    )
    assert [p.correlation for p in found] == sorted((p.correlation for p in found), reverse=True)


def test_pairs_are_searched_once_for_the_same_images_and_split(tmp_path, monkeypatch):
    thumbnails, search, searched = alike(), find_near_duplicates, []

    def counted(rows, pictures):
        searched.append(len(rows))
        return search(rows, pictures)

    monkeypatch.setattr(leakage, "find_near_duplicates", counted)
    rows = table([str(k) for k in range(54)], ["train", "val", "test"] * 18)
    found = cached_near_duplicates(rows, thumbnails, tmp_path)
    assert found == search(rows, thumbnails) == cached_near_duplicates(rows, thumbnails, tmp_path)
    assert len(searched) == 1
    cached_near_duplicates(rows.assign(split=["train", "test", "val"] * 18), thumbnails, tmp_path)
    cached_near_duplicates(rows.assign(id=rows["id"] + "x"), thumbnails, tmp_path)
    cached_near_duplicates(rows, thumbnails[::-1], tmp_path)
    assert len(searched) == 4 and len(list(tmp_path.iterdir())) == 4
    for path in tmp_path.iterdir():
        path.write_text("damaged")
    assert cached_near_duplicates(rows, thumbnails, tmp_path) == found and len(searched) == 5
