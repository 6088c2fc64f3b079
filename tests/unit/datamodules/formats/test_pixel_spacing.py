"""Pixel spacing of a DICOM, of a manifest's column, and of an evaluation grid."""

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.errors import ManifestError
from datamodules.formats.image_io import read_pixel_spacing
from datamodules.formats.rle import encode_rle
from datamodules.image_size import SampleKey
from datamodules.loading.cache_builder import build_cache
from datamodules.loading.dataset import ManifestDataset, collate
from datamodules.manifest.manifest import Manifest, read_manifest, spacing_matrix


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PixelSpacing": [0.2, 0.168]}, (0.2, 0.168)),
        ({}, None),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, None),
        ({"PixelSpacing": [0.0, 0.2]}, None),
    ],
)
def test_the_spacing_of_a_dicom_is_rows_first(dicom, elements, expected):
    assert read_pixel_spacing(dicom(**elements)) == expected


def rows(spacings):
    images = [f"{n}.png" for n in range(len(spacings))]
    return Manifest(pd.DataFrame({"id": images, "image": images, "spacing_mm": spacings}))


def test_a_column_gives_one_number_or_two(tmp_path):
    manifest = rows([0.5, [0.2, 0.3]])
    expected = [[0.5, 0.5], [0.2, 0.3]]
    np.testing.assert_array_equal(spacing_matrix(manifest, np.arange(2)), expected)
    read = read_manifest(manifest.write(tmp_path / "manifest.csv"))
    np.testing.assert_array_equal(spacing_matrix(read, np.arange(2)), expected)
    np.testing.assert_array_equal(spacing_matrix(read, np.array([1])), expected[1:])


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_the_spacing_is_unknown_if_that_of_one_image_is(missing):
    assert spacing_matrix(rows([0.5, missing]), np.arange(2)) is None
    assert spacing_matrix(rows([0.5, missing]), np.array([0])) is not None


@pytest.mark.parametrize(
    "wrong", [0, -0.2, float("inf"), "0.2 mm", True, [0.2], [0.2, 0], [1, 1, 1]]
)
def test_what_is_no_spacing_is_refused(wrong):
    with pytest.raises(ManifestError, match=r"spacing_mm of '0\.png' is .*; write one positive"):
        spacing_matrix(rows([wrong]), np.arange(1))


def test_a_coarser_grid_has_a_wider_spacing(tmp_path):
    mask = np.zeros((100, 80, 1), np.uint8)
    mask[20:50, 10:40] = 1
    cv2.imwrite(str(tmp_path / "a.png"), mask[..., 0] * 200)
    table = {"id": "a", "image": str(tmp_path / "a.png"), "mask": encode_rle(mask)}
    manifest = Manifest(pd.DataFrame([table]))
    cache = build_cache(manifest, 64, 1, tmp_path / "cache")
    spacing = np.array([[0.3, 0.4]])
    for size, expected in (("native", (0.3, 0.4)), (50, (0.6, 0.8))):
        data = ManifestDataset(cache, manifest, 0, evaluation_size=size, spacing=spacing)
        batch = collate([data[SampleKey(0, 0, 0, 64)]])
        assert batch["spacing"] == [pytest.approx(expected)]
    without = ManifestDataset(cache, manifest, 0, evaluation_size="native")
    assert "spacing" not in without[SampleKey(0, 0, 0, 64)]
