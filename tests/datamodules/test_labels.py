"""Tests of labels as numbers: integers, lists and values that are neither."""

import pandas as pd
import pytest

from datamodules.labels import exclusive, targets
from datamodules.manifest import Manifest, read
from datamodules.refusal import ManifestError


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
    assert targets(one).tolist() == [[0], [1], [1]] and not exclusive(one)
    assert targets(several).tolist() == [[0, 1], [0, 0]] and not exclusive(several)
    assert targets(either).tolist() == [[1, 0, 0], [0, 0, 1]] and exclusive(either)
    assert targets(Manifest(pd.DataFrame({"id": ["a"], "image": ["x"]}))) is None


@pytest.mark.parametrize(
    "labels",
    [[0, 2], [0, -1], [0, 0.5], [0, None], [0, "yes"], [0, [1]], [[1], [1, 0]], [[2], [1]]],
)
def test_what_is_no_label_is_refused_by_name(labels):
    with pytest.raises(ManifestError, match=r"the label of 'i\d' is"):
        targets(manifest(labels, ("a",)))


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_labels_survive_a_file(suffix, tmp_path):
    for labels, classes in (([0, 1], ("a",)), ([[0, 1], [1, 1]], ("a", "b"))):
        written = manifest(labels, classes)
        again = read(written.write(tmp_path / f"m{suffix}"))
        assert targets(again).tolist() == targets(written).tolist() and exclusive(
            again
        ) == exclusive(written)
