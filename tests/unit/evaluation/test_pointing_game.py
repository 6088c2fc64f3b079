"""Tests of the pointing game and the Dice of masks, counted pixel by pixel and by hand."""

import numpy as np
import pytest
from hypothesis import given

from evaluation.localization import (
    Detections,
    GroundTruth,
    LocalizationConfig,
    LocalizationResults,
    compute_image_stats,
    compute_scores,
    estimate_scores,
)
from tests.factories.localization import splits

RULES = LocalizationConfig(iou=0.2, resamples=200)


def localized(split, rules=RULES):
    return LocalizationResults.from_images(
        [compute_image_stats(truth, said, rules) for truth, said in split]
    )


def masked(*rows, boxes=None, id="a"):
    mask = np.array([[c == "#" for c in row] for row in rows])
    return GroundTruth(id, id, *mask.shape, boxes, mask)


@given(splits())
def test_the_pointing_game_and_a_blind_guess_are_counted_pixel_by_pixel(split):
    told = compute_scores(localized(split), RULES)
    hit, chance = [], []
    for truth, said in split:

        def within(x, y, boxes=truth.boxes):
            return any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes)

        if len(truth.boxes):
            hit.append(said.peak is not None and within(*said.peak))
            chance.append(
                np.mean(
                    [
                        within(x + 0.5, y + 0.5)
                        for x in range(truth.width)
                        for y in range(truth.height)
                    ]
                )
            )
    assert told["pointing_box"] == pytest.approx(np.mean(hit) if hit else np.nan, nan_ok=True)
    assert told["pointing_box_random"] == pytest.approx(
        np.mean(chance) if chance else np.nan, nan_ok=True
    )


def test_masks_point_and_overlap_by_hand_and_their_components_are_lesions():
    truth = masked("##....", "##....", "....#.", ".....#")
    assert truth.lesions.tolist() == [[0, 0, 2, 2], [4, 2, 6, 4]]
    box_alone = Detections(
        (4.5, 3.5), [[4, 2, 6, 4]], [1.0], np.eye(4, 6, 2).astype(bool)
    )  # in the second box, not on the mask
    told = compute_scores(
        localized([(truth, box_alone), (masked("#.", "..", id="b"), Detections())]), RULES
    )
    assert told["pointing_box"] == 0.5 and told["pointing_mask"] == 0
    assert told["pointing_mask_random"] == pytest.approx((6 / 24 + 1 / 4) / 2) and told[
        "hit_rate_iou_at_1"
    ] == pytest.approx(1 / 3)
    assert told["dice"] == pytest.approx((2 * 2 / (6 + 4)) / 2) and told[
        "dice_drawn"
    ] == pytest.approx(2 * 2 / (6 + 4))
    assert np.isnan(
        compute_scores(localized([(masked("..", id="c"), Detections())]), RULES)["dice"]
    )


def test_a_method_whose_masks_are_all_rejected_scores_0_and_one_that_draws_none_has_no_dice():
    measured = [compute_image_stats(masked("#."), Detections(), RULES)]
    assert compute_scores(LocalizationResults.from_images(measured), RULES)["dice"] == 0
    without = estimate_scores(LocalizationResults.from_images(measured, has_masks=False), RULES)[
        "dice"
    ]
    assert np.isnan(without.value) and without.n == 0


def test_the_tolerance_is_measured_from_the_lesion_s_edge_and_from_the_mask_s_pixels():
    boxed = GroundTruth("a", "a", 20, 20, [[4, 4, 8, 8]])
    mask = np.zeros((20, 20), bool)
    mask[4:8, 4:8] = True
    drawn = GroundTruth("a", "a", 20, 20, None, mask)
    for tolerance, x, hit in ((0, 8.5, 0), (2, 9.5, 1), (1.4, 9.5, 0), (3, 10.5, 1)):
        told = compute_image_stats(
            boxed, Detections((x, 5.5)), LocalizationConfig(tolerance=tolerance)
        ).means
        assert told["pointing_box"] == hit
    assert [
        compute_image_stats(drawn, Detections((9.5, 5.5)), LocalizationConfig(tolerance=t)).means[
            "pointing_mask"
        ]
        for t in (0, 1.9, 2)
    ] == [0, 0, 1]
    corner = compute_image_stats(
        boxed, Detections((9.5, 9.5)), LocalizationConfig(tolerance=2)
    ).means["pointing_box"]  # 1.5 * sqrt 2 away
    beyond = compute_image_stats(
        GroundTruth("a", "a", 20, 20, [[0, 0, 2, 2]]), Detections((-0.5, 0.5)), LocalizationConfig()
    ).means["pointing_box"]
    assert corner == 0 and beyond == 0
