"""Surface distances against MONAI's functions, a brute force over all pixel pairs, and by hand."""

from math import hypot, inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from datamodules.arguments import ArgumentError
from evaluation.metrics.surface_distance import SurfaceDistance

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


def blobs(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """Bool `height x width`: a few discs, some of them cut off by the border."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(random.integers(1, 4)):
        center, radius = random.uniform(0, (height, width)), random.uniform(1, 9)
        mask |= (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2
    return mask


def measure(predicted, truth, spacing=None, **config) -> dict[str, float]:
    measurement = SurfaceDistance(**config).at_spacing(spacing is not None)
    return dict(
        zip(measurement.columns, measurement.measure(predicted, truth, spacing), strict=True)
    )


def surface(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask with a 4-neighbor outside of it or of the picture, `N x 2`."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inside)


def brute_force(predicted, truth, spacing, tolerance) -> tuple[float, float, float]:
    """HD95, ASSD and surface Dice from the distances of all pairs of surface pixels."""
    points = [surface(mask) * np.array(spacing) for mask in (predicted, truth)]
    pairs = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    each = pairs.min(1), pairs.min(0)
    both = np.concatenate(each)
    hd95 = max(np.percentile(distances, 95) for distances in each)
    return hd95, both.mean(), (both <= tolerance * (1 + 1e-6)).mean()


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)) | st.none(),
    st.floats(0.3, 6),
)
def test_it_equals_all_pairs_of_surface_pixels(seed, spacing, tolerance):
    predicted, truth = blobs(seed), blobs(seed + 1)
    if not (predicted.any() and truth.any()):
        return
    found = measure(predicted, truth, spacing, tolerance=tolerance)
    hd95, assd, surface_dice = brute_force(predicted, truth, spacing or (1, 1), tolerance)
    assert found["hd95"] == pytest.approx(hd95, rel=1e-5)
    assert found["assd"] == pytest.approx(assd, rel=1e-5)
    assert found["surface_dice"] == pytest.approx(surface_dice, abs=1e-9)


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
@pytest.mark.parametrize("seed", range(8))
def test_it_equals_the_three_functions_of_monai(seed, spacing):
    predicted, truth = blobs(seed, 64, 48), blobs(seed + 100, 64, 48)
    batch = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth)]
    given = {"include_background": True, "spacing": spacing}
    found = measure(predicted, truth, spacing)
    hd95 = compute_hausdorff_distance(*batch, percentile=95, **given)
    assd = compute_average_surface_distance(*batch, symmetric=True, **given)
    dice = compute_surface_dice(*batch, class_thresholds=[2.0], **given)
    assert found["hd95"] == pytest.approx(hd95.item(), rel=1e-6)
    assert found["assd"] == pytest.approx(assd.item(), rel=1e-6)
    assert found["surface_dice"] == pytest.approx(dice.item(), rel=1e-6)


def test_a_square_moved_by_three_columns_by_hand():
    truth, predicted = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    truth[5:10, 5:10] = True
    predicted[5:10, 8:13] = True
    found = measure(predicted, truth, tolerance=1.0)
    # 16 surface pixels each. The rows 5 and 9: columns 8 and 9 overlap (0), 10 to 12 are 1, 2, 3
    # away. The rows 6 to 8: column 12 is 3 away from column 9, column 8 is 1 away from column 9.
    each = [0, 0, 1, 2, 3] * 2 + [3, 1] * 3
    assert found["assd"] == pytest.approx(np.mean(each))
    assert found["hd95"] == pytest.approx(np.percentile(each, 95))
    assert found["surface_dice"] == pytest.approx(np.mean(np.array(each) <= 1))


@pytest.mark.parametrize("spacing", [None, (0.5, 0.25)])
def test_missed_and_invented_masks_score_the_diagonal_and_none_does_not_count(spacing):
    some, none = blobs(3, 30, 40), np.zeros((30, 40), bool)
    diagonal = hypot(30 * 0.5, 40 * 0.25) if spacing else 50.0
    for predicted, truth in ((none, some), (some, none)):
        assert measure(predicted, truth, spacing) == {
            "hd95": diagonal,
            "assd": diagonal,
            "surface_dice": 0.0,
            "any_mask": 1.0,
            "hd95_detected": 0.0,
            "assd_detected": 0.0,
            "both_masks": 0.0,
        }
    assert set(measure(none, none, spacing).values()) == {0.0}


def test_the_unit_is_mm_only_where_every_spacing_is_known():
    assert SurfaceDistance().at_spacing(known=True).unit == "mm"
    assert SurfaceDistance().at_spacing(known=False).unit == "px"
    assert SurfaceDistance(unit="px").at_spacing(known=True).unit == "px"
    with pytest.raises(ArgumentError, match=r"surface_distance\.unit=mm .*column spacing_mm"):
        SurfaceDistance(unit="mm").at_spacing(known=False)
    definitions = {each.name: each.definition for each in SurfaceDistance(unit="mm").metrics}
    assert "in mm" in definitions["hd95"] and "within 2 mm" in definitions["surface_dice"]


@pytest.mark.parametrize("tolerance", [0, -1.0, nan, inf, True])
def test_a_tolerance_that_is_no_length_is_refused(tolerance):
    with pytest.raises(ArgumentError, match="tolerance"):
        SurfaceDistance(tolerance=tolerance)
