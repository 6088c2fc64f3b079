"""Tests of mask rejection: each reason alone, the order of reasons and the resulting funnel."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import UserError
from weak_supervision.quality import REJECTION_STEPS, QualityFilter, jitter_boxes, rejection_funnel
from weak_supervision.segmenters.base import Masks, box_to_slices
from weak_supervision.segmenters.classical import GrabCutSegmenter, RandomWalkerSegmenter

SHAPE = (50, 40)  # 2000 pixels
BOX, POINT = np.array([[10.0, 10, 30, 30]]), np.array([[20.0, 20.0]])
HEAT = np.zeros(SHAPE)
HEAT[15:25, 15:25] = 1
GOOD = {"score": 0.9, "stability": 0.95, "probability": 0.8, "heat": HEAT}
RULE = QualityFilter(
    min_area=0.005,
    max_area=0.1,
    min_probability=0.5,
    min_agreement=0.2,
    min_score=0.5,
    min_stability=0.8,
)


def mask(*boxes) -> np.ndarray:
    drawn = np.zeros(SHAPE, bool)
    for box in boxes:
        drawn[box_to_slices(np.array(box, float), SHAPE)] = True
    return drawn


def judged(drawn, rule=RULE, **changes):
    of = GOOD | changes
    (verdict,) = rule.check(
        Masks(drawn[None], np.array([of["score"]])),
        np.array([of["stability"]]),
        BOX,
        POINT,
        of["heat"],
        of["probability"],
    )
    return verdict


def test_a_good_mask_is_accepted_with_all_its_measures():
    verdict = judged(mask((16, 16, 24, 24)))
    assert verdict.reason is None
    assert verdict.features == pytest.approx(
        {
            "area": 64 / 2000,
            "components": 1,
            "largest": 1,
            "distance": 0,
            "heat": 1,
            "agreement": 1 - 36 / 336,  # of the 336 other pixels of the box 36 are hot
            "probability": 0.8,
            "score": 0.9,
            "stability": 0.95,
        }
    )


@pytest.mark.parametrize(
    ("drawn", "changes", "reason"),
    [
        (mask((16, 16, 24, 24)), {"heat": np.zeros(SHAPE)}, "no heat"),
        (mask(), {}, "empty mask"),
        (mask((18, 18, 21, 21)), {}, "too small"),  # 9 of 2000 pixels
        (mask((12, 12, 27, 26)), {}, "too large"),  # 210
        (mask((16, 16, 24, 24), (11, 11, 12, 12), (28, 28, 29, 29)), {}, "in pieces"),  # three
        (mask((16, 16, 24, 22), (16, 24, 24, 28)), {}, "in pieces"),  # two, 48 and 32 pixels
        (mask((11, 11, 14, 29)), {}, "far from the peak"),  # 6 of 20 pixels
        (mask((16, 16, 24, 24)), {"probability": 0.4}, "image not suspicious"),
        (mask((16, 16, 24, 24)), {"heat": 1 - HEAT}, "heat elsewhere"),
        (mask((16, 16, 24, 24)), {"score": 0.4}, "segmenter unsure"),
        (mask((16, 16, 24, 24)), {"stability": 0.7}, "unstable"),
    ],
)
def test_each_fault_alone_is_its_reason(drawn, changes, reason):
    assert judged(drawn, **changes).reason == reason


def test_the_first_reason_counts_in_the_order_of_the_steps():
    faults = {"heat": 1 - HEAT, "probability": 0.1, "score": 0.1, "stability": 0.1}
    order = []
    for mend in ("probability", "heat", "score", "stability"):
        order.append(judged(mask((16, 16, 24, 24)), **faults).reason)
        del faults[mend]
    assert (
        order
        == ["image not suspicious", "heat elsewhere", "segmenter unsure", "unstable"]
        == list(REJECTION_STEPS)[-4:]
    )
    assert (
        judged(mask(), heat=np.zeros(SHAPE), probability=0).reason == "no heat"
        and judged(mask(), probability=0).reason == "empty mask"
    )


def test_what_lies_on_a_bound_passes():
    rule = QualityFilter(
        min_area=64 / 2000,
        max_area=64 / 2000,
        min_probability=0.8,
        min_score=0.9,
        min_stability=0.95,
        max_distance=0,
    )
    assert judged(mask((16, 16, 24, 24)), rule).reason is None
    assert (
        judged(
            mask((12, 16, 15, 24)), QualityFilter(max_distance=0.25, max_area=1, min_agreement=-1)
        ).reason
        is None
    )  # 5 of 20 pixels


def test_unknown_stability_rejects_nothing():
    assert judged(mask((16, 16, 24, 24)), stability=np.nan).reason is None


def test_two_masks_have_a_verdict_each_and_none_have_none():
    masks = Masks(np.stack([mask((16, 16, 24, 24)), mask()]), np.array([0.9, 0.0]))
    first, second = RULE.check(
        masks, np.array([0.9, 0.0]), np.repeat(BOX, 2, 0), np.repeat(POINT, 2, 0), HEAT, 0.8
    )
    assert first.reason is None and second.reason == "empty mask"
    assert (
        RULE.check(
            Masks(np.zeros((0, *SHAPE), bool), np.zeros(0)),
            np.zeros(0),
            np.zeros((0, 4)),
            np.zeros((0, 2)),
            HEAT,
            0.8,
        )
        == []
    )


def test_segmenting_asks_for_its_own_moved_boxes_once():
    asked = []

    def segmenter(image, boxes, points):
        asked.append(boxes)
        return Masks(np.ones((len(boxes), *image.shape), bool), np.ones(len(boxes), np.float32))

    found, stable = QualityFilter(jitters=3, jitter=0.2, seed=5).segment(
        segmenter, np.zeros(SHAPE, np.uint8), "a", BOX, POINT
    )
    (boxes,) = asked
    assert len(found) == 1 and stable.tolist() == [1]
    assert (boxes[0] == BOX[0]).all() and (
        boxes[1:] == jitter_boxes(BOX, SHAPE, "a", 3, 0.2, 5)[0]
    ).all()


@pytest.mark.parametrize("segmenter", [RandomWalkerSegmenter(), GrabCutSegmenter()])
def test_a_drawn_hot_spot_is_accepted_and_noise_has_too_little_contrast(segmenter):
    rows, columns = np.mgrid[:120, :100] + 0.5
    mean = 8 + 70 * np.exp(-((rows - 60) ** 2 + (columns - 50) ** 2) / 50)
    heat = np.exp(-((rows - 63) ** 2 + (columns - 47) ** 2) / 400)
    boxes, points = np.array([[26.0, 36, 74, 84]]), np.array([[47.0, 63.0]])
    random = np.random.default_rng(0)
    reasons = []
    for image in (random.poisson(mean), random.poisson(np.full(mean.shape, 8.0))):
        found, stable = QualityFilter().segment(
            segmenter, image.astype(np.uint8), "a", boxes, points
        )
        reasons.append(QualityFilter().check(found, stable, boxes, points, heat, 0.9)[0].reason)
    assert reasons == [None, "segmenter unsure"]


@given(st.lists(st.sampled_from([None, *REJECTION_STEPS])))
def test_the_funnel_narrows_and_adds_up(reasons):
    steps = rejection_funnel(reasons)
    names, left = zip(*steps, strict=True)
    assert names == ("boxes", *REJECTION_STEPS.values(), "accepted")
    assert left[0] == len(reasons) and left[-1] == left[-2] == reasons.count(None)
    lost = [before - after for before, after in pairwise(left[:-1])]
    assert lost == [Counter(reasons)[reason] for reason in REJECTION_STEPS]  # so it never widens


def test_a_funnel_by_hand():
    left = dict(rejection_funnel([None, "empty mask", "unstable", None, "too large", "empty mask"]))
    assert (
        left["boxes"],
        left["heat"],
        left["a mask"],
        left["small enough"],
        left["segmenter sure"],
        left["accepted"],
    ) == (6, 6, 4, 3, 3, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_area", -0.1),
        ("max_area", 2),
        ("max_components", 0),
        ("max_components", 1.5),
        ("min_agreement", -2),
        ("jitter", 0.5),
        ("jitters", -1),
    ],
)
def test_impossible_bounds_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name}={value} is not allowed; it must be a .*number"):
        QualityFilter(**{name: value})


def test_bounds_that_nothing_can_keep_are_refused():
    with pytest.raises(UserError, match=r"min_area=0\.1 is above max_area=0\.03"):
        QualityFilter(min_area=0.1)
