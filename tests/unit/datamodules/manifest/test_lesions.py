"""Tests of lesion sizes against SciPy, and of what is left of them on the network's canvas."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from datamodules.formats.rle import encode_rle
from datamodules.image_size import ImageSize
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.lesions import (
    Lesions,
    component_areas,
    extreme_rows,
    find_lesions,
    lesion_visibility,
)
from datamodules.manifest.manifest import Manifest
from tests.factories.layouts import save


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))
)
def test_areas_are_those_of_scipy(mask):
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    expected = ndimage.sum_labels(mask, labels, range(1, count + 1))
    assert sorted(component_areas(mask)) == sorted(expected.tolist())


def test_lesions_are_found_once_and_kept_beside_the_cache(tmp_path):
    rows = []
    for n in range(3):
        masks = np.zeros((20, 30, 2), np.uint8)
        masks[2:4, 2:5, 0] = 1
        masks[10:12, 10 : 10 + n, 1] = 1
        masks[0, 0, 0] = n == 2
        save(tmp_path / f"{n}.png", np.full((20, 30), 50 * n, np.uint8))
        rows.append({"id": str(n), "image": str(tmp_path / f"{n}.png"), "mask": encode_rle(masks)})
    manifest = Manifest(pd.DataFrame(rows), ("a", "b"))
    cache = build_cache(manifest, 32, 1, tmp_path / "cache")
    for _ in range(2):
        found = find_lesions(cache, 2)
        table = sorted(
            zip(found.rows.tolist(), found.classes.tolist(), found.areas.tolist(), strict=True)
        )
        assert table == [(0, 0, 6), (1, 0, 6), (1, 1, 2), (2, 0, 1), (2, 0, 6), (2, 1, 4)]
    assert (cache.folder / "lesions.kept").is_file()
    assert extreme_rows(np.asarray(cache.areas), np.asarray(cache.sizes), 1) == ([0], [2])


def test_visibility_by_hand():
    areas = np.array([100] * 19 + [25])
    sizes = np.array([[400, 200]] * 20)
    lesions = Lesions(np.arange(20), np.zeros(20, int), areas)
    half = lesion_visibility(lesions, sizes, ImageSize(100, 100))  # a quarter of each side
    assert half.below == {16: 20, 4: 1} and half.lesions == 20
    # 95 % of the lesions have 100 px, which are 16 px at 4 / 10 of 400: 160, a multiple of 32
    assert half.needed == 160
    assert half.describe(ImageSize(100, 100)) == (
        "20 of 20 areas of masks cover fewer than 16 pixels at image_size=100, 1 of them fewer than"
        " 4; image_size=160 would keep 95% of them above 16"
    )
    full = lesion_visibility(lesions, sizes, ImageSize(400, 400))
    assert full.below == {16: 0, 4: 0}
    tall = lesion_visibility(lesions, sizes, ImageSize(400, 100))  # the width decides
    assert tall.below == {16: 1, 4: 0}
    nothing = lesion_visibility(Lesions(*np.zeros((3, 0), int)), sizes, ImageSize(64, 64))
    assert nothing.describe(ImageSize(64, 64)) == "no mask" and nothing.needed is None
