"""Tests of localization scores against loops, hand-computed cases and a plain bootstrap."""

import json

import numpy as np
import pytest
from hypothesis import given

from datamodules.errors import UserError
from evaluation.bootstrap import bootstrap_weights
from evaluation.localization import (
    Detections,
    GroundTruth,
    LocalizationConfig,
    LocalizationResults,
    compute_image_stats,
    compute_scores,
    estimate_scores,
    resample_scores,
    to_table,
)
from tests.factories.localization import centered, froc_by_loops, iou, read, splits

RULES = LocalizationConfig(iou=0.2, resamples=200)


def localized(split, rules=RULES):
    return LocalizationResults.from_images(
        [compute_image_stats(truth, said, rules) for truth, said in split]
    )


@given(splits())
def test_hits_of_every_budget_are_those_of_loops(split):
    told = compute_scores(localized(split), RULES)
    ill = [(truth, said) for truth, said in split if len(truth.boxes)]
    for b in range(1, 6):
        for kind, right in (
            ("center", centered),
            ("iou", lambda lesion, box: iou(lesion, box) >= RULES.iou),
        ):
            hit = [
                [any(right(lesion, box) for box in said.boxes[:b]) for lesion in truth.boxes]
                for truth, said in ill
            ]
            lesions = np.mean([one for image in hit for one in image]) if ill else np.nan
            images = np.mean([any(image) for image in hit]) if ill else np.nan
            assert told[f"hit_rate_{kind}_at_{b}"] == pytest.approx(lesions, nan_ok=True)
            assert told[f"image_hit_{kind}_at_{b}"] == pytest.approx(images, nan_ok=True)
        best = [
            max([iou(lesion, box) for box in said.boxes[:b]], default=0)
            for truth, said in ill
            for lesion in truth.boxes
        ]
        assert told[f"iou_at_{b}"] == pytest.approx(np.mean(best) if best else np.nan, nan_ok=True)


def test_images_of_unknown_truth_count_nowhere_and_normal_ones_only_for_false_positives():
    ill, said = (
        GroundTruth("a", "1", 9, 9, [[0, 0, 3, 3]]),
        Detections((1, 1), [[0, 0, 3, 3]], [0.5]),
    )
    normal, unknown = GroundTruth("b", "2", 9, 9, []), GroundTruth("c", "3", 9, 9, None)
    seen = localized([(ill, said), (normal, said), (unknown, said)])
    found = estimate_scores(seen, RULES)
    assert seen.n_unknown == 1 and seen.ids == ("a", "b")
    assert (
        found["pointing_box"].n,
        found["hit_rate_iou_at_1"].n,
        found["froc_at_1"].n,
        found["dice"].n,
    ) == (1, 1, 2, 0)
    assert found["froc_at_0.25"].value == 0.5 and found["pointing_box"].trivial == {
        "a random pixel": 9 / 81,
        "the center": 0,
    }
    table = to_table({"ours": found})["ours"]
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert (
        table["dice"]["value"] is None
        and table["pointing_box"]["value"] == 1
        and set(table) == set(RULES.definitions())
    )
    assert table["froc_at_0.125"] | {"definition": ""} == {
        "value": 0.25,
        "low": None,
        "high": None,
        "n": 2,
        "degenerate": 0,
        "trivial": {},
        "definition": "",
    }


def many(patients, seed=0):
    """Two images a patient, about half with one lesion; hits come and go by patient."""
    random, found = np.random.default_rng(seed), []
    for p in range(patients):
        for view in "ab":
            boxes = [[2, 2, 6, 6]] if random.random() < 0.6 else []
            at = 2 if random.random() < 0.5 else 10
            said = [[at, at, at + 4, at + 4], [10, 2, 14, 6]]
            found.append(
                (
                    GroundTruth(f"{p}{view}", str(p), 16, 16, boxes),
                    Detections((at + 2, at + 2), said, random.random(2)),
                )
            )
    return found


def test_intervals_are_those_of_a_bootstrap_that_copies_images():
    split = many(40)
    seen = localized(split)
    drawn, found = resample_scores(seen, RULES), estimate_scores(seen, RULES)
    weights = np.concatenate(list(bootstrap_weights(seen.groups, RULES.resamples, RULES.seed)))
    for r in range(0, 200, 20):
        copies = [
            pair for pair, times in zip(split, weights[r], strict=True) for _ in range(int(times))
        ]
        told = compute_scores(localized(copies), RULES)
        assert {name: drawn[name][r] for name in told} == pytest.approx(told, nan_ok=True)
        assert drawn["froc_at_1"][r] == pytest.approx(read(froc_by_loops(copies, RULES.iou), 1))
    for name in ("pointing_box", "hit_rate_center_at_1", "froc_at_0.5", "froc_mean"):
        assert (found[name].low, found[name].high) == pytest.approx(
            np.quantile(drawn[name], [0.025, 0.975])
        )
        assert found[name].low < found[name].value < found[name].high


def test_fewer_than_twenty_patients_with_a_lesion_have_no_interval(monkeypatch):
    ill = [
        (GroundTruth(t.id, t.group, 16, 16, [[2, 2, 6, 6]] if int(t.group) < 19 else []), s)
        for t, s in many(40)
    ]
    assert all(score.low is None for score in estimate_scores(localized(ill), RULES).values())
    more = [
        (GroundTruth(t.id, t.group, 16, 16, [[2, 2, 6, 6]] if int(t.group) < 20 else []), s)
        for t, s in many(40)
    ]
    found = estimate_scores(localized(more), RULES)
    assert (
        found["pointing_box"].low is not None
        and found["froc_at_1"].low is not None
        and found["dice"].low is None
    )
    monkeypatch.setattr("evaluation.bootstrap.MAX_BLOCK_NUMBERS", 1000)  # a few resamples at a time
    for name, score in estimate_scores(localized(more), RULES).items():
        assert (score.low, score.high) == pytest.approx((found[name].low, found[name].high))


def test_no_image_at_all_scores_nothing():
    found = estimate_scores(localized([]), RULES)
    assert all(
        np.isnan(score.value) and score.n == 0 and score.low is None for score in found.values()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": -1},
        {"iou": 0},
        {"iou": 1.1},
        {"max_boxes": 0},
        {"rates": []},
        {"rates": [0, 1]},
        {"froc_auc_limit": 0},
    ],
)
def test_rules_out_of_range_are_refused_with_the_mend(wrong):
    with pytest.raises(UserError, match=rf"{next(iter(wrong))}=.* is not allowed; it must be "):
        LocalizationConfig(**wrong)
