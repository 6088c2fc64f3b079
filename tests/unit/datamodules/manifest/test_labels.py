"""Tests of labels as numbers: integers, lists and values that are neither."""

import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.manifest.manifest import (
    Manifest,
    is_multiclass,
    label_matrix,
    read_manifest,
)


def manifest(labels: list, classes: tuple[str, ...]) -> Manifest:
    return Manifest(
        pd.DataFrame(
            {
                "id": [f"i{n}" for n in range(len(labels))],
                "image": "x.png",
                "label": pd.Series(labels, dtype=object),
            }
        ),
        classes,
    )


def test_one_class_several_and_exclusive_ones():
    one, several, either = (
        manifest([0, 1, 1], ("a",)),
        manifest([[0, 1], [0, 0]], ("a", "b")),
        manifest([0, 2], ("a", "b", "c")),
    )
    assert label_matrix(one).tolist() == [[0], [1], [1]] and not is_multiclass(one)
    assert label_matrix(several).tolist() == [[0, 1], [0, 0]] and not is_multiclass(several)
    assert label_matrix(either).tolist() == [[1, 0, 0], [0, 0, 1]] and is_multiclass(either)
    assert label_matrix(Manifest(pd.DataFrame({"id": ["a"], "image": ["x"]}))) is None


@pytest.mark.parametrize(
    "labels",
    [[0, 2], [0, -1], [0, 0.5], [0, None], [0, "perhaps"], [0, [1]], [[1], [1, 0]], [[2], [1]]],
)
def test_what_is_no_label_is_refused_by_name(labels):
    with pytest.raises(ManifestError, match=r"the label of 'i\d' is"):
        label_matrix(manifest(labels, ("a",)))


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_labels_survive_a_file(suffix, tmp_path):
    for labels, classes in (([0, 1], ("a",)), ([[0, 1], [1, 1]], ("a", "b"))):
        written = manifest(labels, classes)
        again = read_manifest(written.write(tmp_path / f"m{suffix}"))
        assert label_matrix(again).tolist() == label_matrix(written).tolist() and is_multiclass(
            again
        ) == is_multiclass(written)
