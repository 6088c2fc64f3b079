"""Tests of the decision-rule search against brute force over every rule and byte map."""

import numpy as np
import pytest
import torch

from evaluation.logit_bins import quantize_logits
from evaluation.rule_search import RuleGrid, rule_scores, search_segmentation_rule
from tests.unit.evaluation.metrics.test_segmentation import evidence_of, scene


def brute(logits, truth, top, area, bottom, lesions_only=False):
    scores = []
    for byte, true in zip(quantize_logits(logits)[:, 0].numpy(), truth[:, 0].numpy(), strict=True):
        if lesions_only and not true.any():
            continue
        mask = byte >= bottom if (byte >= top).mean() >= area else np.zeros_like(byte, bool)
        whole = mask.sum() + true.sum()
        scores.append(2 * (mask & (true > 0)).sum() / whole if whole else 1.0)
    return np.mean(scores)


@pytest.mark.parametrize("lesions_only", [False, True])
def test_every_rule_scores_what_the_byte_maps_say(lesions_only):
    logits, truth = scene()
    grid = RuleGrid(np.arange(120, 160, 6), np.array([0.0, 0.01, 0.1, 0.4]), np.arange(110, 145, 5))
    found, tops = rule_scores(evidence_of(logits, truth).counts[:, 0], grid, lesions_only)
    for t, top in enumerate(tops):
        for a, area in enumerate(grid.min_area):
            for b, bottom in enumerate(grid.bottom):
                assert found[t, a, b] == pytest.approx(
                    brute(logits, truth, top, area, bottom, lesions_only), abs=1e-12
                )


def test_the_coupled_grid_is_a_plain_threshold():
    logits, truth = scene()
    found = search_segmentation_rule(evidence_of(logits, truth), RuleGrid.from_ranges([0.3, 0.75]))[
        0
    ]
    best = max(brute(logits, truth, k, 0, k) for k in range(122, 138))
    assert found.score == pytest.approx(best) and found.rule[0] == found.rule[2]
    assert found.score_at_half == pytest.approx(brute(logits, truth, 128, 0, 128))


def test_ties_take_the_middle_of_the_plateau():
    truth = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    truth[:, :, 2:5, 2:5] = 1
    logits = torch.where(truth > 0, 4.0, -4.0)  # every threshold between is perfect
    found = search_segmentation_rule(
        evidence_of(logits, truth), RuleGrid(None, np.zeros(1), np.arange(97, 160))
    )[0]
    assert found.score == 1.0 and found.rule[2] == 128 and not found.no_better_than_empty


def test_a_rule_no_better_than_predicting_nothing_is_flagged():
    logits, truth = scene()
    truth[2:] = 0
    found = search_segmentation_rule(
        evidence_of(-logits, truth),
        RuleGrid(np.arange(120, 160), np.array([0.0, 0.9]), np.arange(120, 140)),
    )[0]
    assert found.no_better_than_empty and found.score == pytest.approx(22 / 24)


@pytest.mark.parametrize(
    ("bottom", "top", "part"),
    [
        ([0.0, 1.0], None, None),
        ([0.3, 0.75], None, "bottom"),
        ([0.99, 0.9999], None, "bottom"),
        ([0.9, 0.999], None, None),
        ([0.9, 0.9], None, None),  # chosen by the user, not searched
        ([0.0, 1.0], [0.3, 0.5], "top"),
    ],
)
def test_a_best_rule_at_the_end_of_a_narrow_range_is_named(bottom, top, part):
    truth = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    truth[:3, :, 2:5, 2:5] = 1
    logits = torch.where(truth > 0, 5.0, 2.5)  # probabilities .993 and .924, best between them
    grid = RuleGrid.from_ranges(bottom, top, (0.0, 0.001))
    found = search_segmentation_rule(evidence_of(logits, truth), grid)[0]
    assert found.at_bound == part
