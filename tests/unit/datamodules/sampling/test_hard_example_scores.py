"""Tests of a pre-classifier's probabilities, merged over folds.

Only networks that had not seen an image may give its probability.
"""

import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.manifest.manifest import Manifest
from datamodules.sampling.hard_example_scores import (
    HELD_OUT,
    IN_SAMPLE,
    OUT_OF_FOLD,
    SCORE_COLUMNS,
    SCORES_FILE,
    attach_scores,
    merge_scores,
    read_scores,
    write_scores,
)

SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test"}


def fold(*rows) -> pd.DataFrame:
    return pd.DataFrame(
        [(id, p, seen, SPLITS[id]) for id, p, seen in rows], columns=list(SCORE_COLUMNS)
    )


FOLDS = [
    fold(
        ("a", 0.9, IN_SAMPLE), ("b", 0.2, OUT_OF_FOLD), ("c", 0.4, HELD_OUT), ("d", 1.0, HELD_OUT)
    ),
    fold(
        ("a", 0.3, OUT_OF_FOLD), ("b", 0.8, IN_SAMPLE), ("c", 0.6, HELD_OUT), ("d", 0.5, HELD_OUT)
    ),
]
MERGED = fold(
    ("a", 0.3, OUT_OF_FOLD), ("b", 0.2, OUT_OF_FOLD), ("c", 0.5, HELD_OUT), ("d", 0.75, HELD_OUT)
)


def manifest(**splits) -> Manifest:
    """A table of a, b, c, d; `splits` says which stand elsewhere."""
    outer = SPLITS | splits
    return Manifest(
        pd.DataFrame(
            {
                "id": list(outer),
                "image": [f"{id}.png" for id in outer],
                "outer_split": list(outer.values()),
            }
        )
    )


def test_folds_become_one_table():
    merged = merge_scores(FOLDS).sort_values("id")
    assert (
        merged[["id", "seen", "split"]].to_numpy().tolist()
        == MERGED[["id", "seen", "split"]].to_numpy().tolist()
    )
    assert merged["cls_prob"].tolist() == pytest.approx([0.3, 0.2, 0.5, 0.75])


def test_what_is_written_is_read_and_attached(tmp_path):
    file = write_scores(MERGED.sample(frac=1, random_state=0).assign(more=1), tmp_path)
    assert (
        file == tmp_path / SCORES_FILE
        and read_scores(tmp_path).equals(read_scores(file))
        and read_scores(file).equals(MERGED)
    )
    rows = attach_scores(manifest(), str(tmp_path)).rows
    assert rows["id"].tolist() == ["a", "b", "c", "d"] and rows["cls_prob"].tolist() == [
        0.3,
        0.2,
        0.5,
        0.75,
    ]


def test_an_image_without_probability_has_none(tmp_path):
    write_scores(MERGED[1:], tmp_path)
    assert attach_scores(manifest(), str(tmp_path)).rows["cls_prob"].isna().tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path):
    write_scores(MERGED.assign(id=["007", "1.2", "1e3", "nan"]), tmp_path)
    assert read_scores(tmp_path)["id"].tolist() == ["007", "1.2", "1e3", "nan"]


@pytest.mark.parametrize(
    ("rows", "splits", "wrong"),
    [
        (
            FOLDS[0],
            {},
            "1 probabilities come from a network that was trained on these images .such as 'a'",
        ),
        (
            MERGED,
            {"c": "train"},
            "1 probabilities come from another split: these images are train here .*'c'",
        ),
        (
            MERGED,
            {"a": "val", "b": "test"},
            "2 probabilities come from another split: its folds were trained .*'a'",
        ),
    ],
)
def test_probabilities_of_networks_that_know_too_much_are_refused(rows, splits, wrong, tmp_path):
    write_scores(rows, tmp_path)
    with pytest.raises(ManifestError, match=f"{wrong}.*preclassify_pnx folds=5"):
        attach_scores(manifest(**splits), str(tmp_path))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("id,cls_prob,seen\na,0.1,held_out\n", "has no column split .it has id, cls_prob, seen"),
        ("id,cls_prob,seen,split\na,1.5,held_out,val\n", "a cls_prob outside 0..1"),
        ("id,cls_prob,seen,split\na,high,held_out,val\n", "a cls_prob outside 0..1"),
        (
            "id,cls_prob,seen,split\na,0.5,heldout,val\n",
            "has seen='heldout', which is not one of out_of_fold, held_out",
        ),
        ("id,cls_prob,seen,split\na,0.5,,val\n", "has seen=''"),
        ("id,cls_prob,seen,split\na,0.5,held_out,val\na,0.6,held_out,val\n", "names 'a' twice"),
        ("", "cannot be read as a CSV"),
        ('id,cls_prob,seen,split\n"a,0.5', "cannot be read as a CSV"),
        ("id,cls_prob,seen,split\n\udcff,0.5,held_out,val\n", "cannot be read as a CSV"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(text, wrong, tmp_path):
    (tmp_path / SCORES_FILE).write_text(text, errors="surrogateescape")
    with pytest.raises(ManifestError, match=f"{SCORES_FILE} {wrong}|{SCORES_FILE} holds {wrong}"):
        read_scores(tmp_path)


def test_a_run_without_the_file_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ManifestError, match=f"holds no {SCORES_FILE}; name a finished run"):
            read_scores(place)
