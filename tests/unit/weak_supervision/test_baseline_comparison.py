"""Tests of comparing a method with its baselines: the paired bootstrap and the verdict."""

import numpy as np
import pytest

from evaluation.bootstrap import Estimate, PairedDifference, bootstrap_weights
from evaluation.localization import (
    Detections,
    GroundTruth,
    LocalizationConfig,
    LocalizationResults,
    compute_image_stats,
    estimate_scores,
)
from weak_supervision.localization_scorer import baseline_differences, summary_sentence

RULES = LocalizationConfig(resamples=300)


def method(share, patients=40, seed=0):
    """One lesion a patient, in which a share of the peaks and first boxes lies."""
    random = np.random.default_rng(seed)
    at = np.where(random.random(patients) < share, 2.0, 10.0)
    boxes = [[[x, 2, x + 4, 6]] for x in at]
    pairs = [
        (GroundTruth(f"{i}", f"{i}", 16, 16, [[2, 2, 6, 6]]), Detections((x + 1, 3), box, [0.5]))
        for i, (x, box) in enumerate(zip(at, boxes, strict=True))
    ]
    return LocalizationResults.from_images(
        [compute_image_stats(truth, said, RULES) for truth, said in pairs]
    )


def test_differences_are_those_of_the_same_draws_of_patients():
    ours, theirs = method(0.8), method(0.3, seed=1)
    found = baseline_differences(ours, theirs, RULES)
    assert set(found) == {"pointing_box", "hit_rate_center_at_1", "hit_rate_iou_at_1", "froc_at_1"}
    gap = ours.means["pointing_box"] - theirs.means["pointing_box"]
    weights = np.concatenate(list(bootstrap_weights(ours.groups, 300)))
    drawn = weights @ gap / weights.sum(1)
    assert found["pointing_box"].value == pytest.approx(gap.mean())
    assert (found["pointing_box"].low, found["pointing_box"].high) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975])
    )
    assert found["pointing_box"].share_above == (drawn > 1e-12).mean()
    itself = baseline_differences(ours, ours, RULES)["froc_at_1"]
    assert (itself.value, itself.low, itself.high, itself.share_above) == (0, 0, 0, 0)


def test_too_few_patients_have_a_difference_without_an_interval_and_other_images_are_refused():
    few = baseline_differences(method(0.8, 19), method(0.3, 19), RULES)["pointing_box"]
    assert few.low is None and few.high is None and few.value > 0
    with pytest.raises(ValueError, match="evaluated on different images"):
        baseline_differences(method(0.8, 19), method(0.8, 20), RULES)


def score(value, low=None, high=None, n=120):
    return Estimate(value, low, high, n, 0, {}, "")


RANDOM, BLOB = score(0.1, 0.05, 0.16), score(0.5, 0.4, 0.6)
OURS = score(0.62, 0.51, 0.72)
FAR = PairedDifference(0.52, 0.42, 0.61, 1.0)


@pytest.mark.parametrize(
    ("gap", "claim"),
    [
        # the intervals of the two scores overlap, .51 < .60, and still the difference is clear
        (
            PairedDifference(0.12, 0.04, 0.22, 0.99),
            "better than the brightest blob (.50 [.40, .60]; difference +.12 [+.04, +.22])",
        ),
        (
            PairedDifference(0.12, -0.01, 0.25, 0.9),
            "not distinguishable from the brightest blob (.50 [.40, .60]; difference +.12 [-.01,"
            " +.25])",
        ),
        (
            PairedDifference(-0.12, -0.22, -0.04, 0.0),
            "worse than the brightest blob (.50 [.40, .60]; difference -.12 [-.22, -.04])",
        ),
    ],
)
def test_the_claim_follows_the_paired_difference_and_not_the_overlap_of_two_intervals(gap, claim):
    assert summary_sentence(
        OURS,
        {"randomized weights": RANDOM, "the brightest blob": BLOB},
        {"randomized weights": FAR, "the brightest blob": gap},
    ) == (
        "The pointing game gives .62 [.51, .72] for the heat maps (n = 120); they are better than"
        " randomized weights (.10 [.05, .16]; difference +.52 [+.42, +.61]) and " + claim + "."
    )


def test_nothing_is_claimed_without_an_interval_or_without_a_lesion():
    few = PairedDifference(1.0, None, None, 1.0)
    assert summary_sentence(
        score(1.0, n=7), {"the brightest blob": score(0.0)}, {"the brightest blob": few}
    ) == (
        "The pointing game gives 1.00 for the heat maps (n = 7); they cannot be compared with the"
        " brightest blob (.00), because fewer than 20 patients have a known lesion."
    )
    assert summary_sentence(score(float("nan"), n=0), {"the brightest blob": BLOB}, {}) == (
        "The pointing game has no image with a known lesion, so the heat maps cannot be compared"
        " with the brightest blob."
    )


def test_a_method_that_finds_the_lesions_is_better_than_one_that_does_not_and_not_than_itself():
    good, bad = method(0.95), method(0.1, seed=1)
    ours = estimate_scores(good, RULES)["pointing_box"]
    for other, claim in ((bad, "they are better than b"), (good, "not distinguishable from b")):
        gap = baseline_differences(good, other, RULES)["pointing_box"]
        theirs = estimate_scores(other, RULES)["pointing_box"]
        assert claim in summary_sentence(ours, {"b": theirs}, {"b": gap})
