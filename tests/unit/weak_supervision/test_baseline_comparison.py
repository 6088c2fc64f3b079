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
    assert set(found) == {"pointing_box", "hit_rate_centre_at_1", "hit_rate_iou_at_1", "froc_at_1"}
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


RANDOM, BLOB = score(0.1, 0.05, 0.16), score(0.2, 0.13, 0.28)


@pytest.mark.parametrize(
    ("ours", "blob", "sentence"),
    [
        (
            score(0.62, 0.51, 0.72),
            BLOB,
            (
                "The pointing game (.62 [.51, .72], n = 120) lies above randomised weights (.10"
                " [.05, .16]) and the brightest blob (.20 [.13, .28])."
            ),
        ),
        (
            score(0.62, 0.51, 0.72),
            score(0.5, 0.4, 0.6),
            (
                "The pointing game (.62 [.51, .72], n = 120) lies above randomised weights (.10"
                " [.05, .16]), but not above the brightest blob (.50 [.40, .60])."
            ),
        ),
        (
            score(0.15, 0.08, 0.2),
            BLOB,
            (
                "The pointing game (.15 [.08, .20], n = 120) does not lie above randomised weights"
                " (.10 [.05, .16]) or the brightest blob (.20 [.13, .28])."
            ),
        ),
        (
            score(1.0, n=7),
            score(0.0),
            (
                "The pointing game (1.00, n = 7) has no interval, because fewer than 20 patients"
                " with a lesion count: whether it lies above randomised weights (.10 [.05, .16])"
                " and the brightest blob (.00) is not known."
            ),
        ),
        (
            score(float("nan"), n=0),
            BLOB,
            (
                "The pointing game has no image with a known lesion, so whether it lies above"
                " randomised weights and the brightest blob is not known."
            ),
        ),
    ],
)
def test_the_verdict_says_it_either_way(ours, blob, sentence):
    assert (
        summary_sentence(ours, {"randomised weights": RANDOM, "the brightest blob": blob})
        == sentence
    )


def test_the_verdict_ends_with_the_paired_differences():
    gaps = {
        "randomised weights": PairedDifference(0.52, 0.42, 0.61, 1.0),
        "the brightest blob": PairedDifference(-0.05, -0.1, 0.01, 0.1),
    }
    said = summary_sentence(
        score(0.62, 0.51, 0.72), {"randomised weights": RANDOM, "the brightest blob": BLOB}, gaps
    )
    assert said.endswith(
        "; paired differences: +.52 [+.42, +.61] from randomised weights and -.05 [-.10, +.01] from"
        " the brightest blob."
    )


def test_a_method_that_finds_the_lesions_lies_above_one_that_does_not_and_not_above_itself():
    found = {
        name: estimate_scores(each, RULES)["pointing_box"]
        for name, each in (("a", method(0.95)), ("b", method(0.1, seed=1)))
    }
    assert "lies above b" in summary_sentence(
        found["a"], {"b": found["b"]}
    ) and "does not lie above a" in summary_sentence(found["a"], {"a": found["a"]})
