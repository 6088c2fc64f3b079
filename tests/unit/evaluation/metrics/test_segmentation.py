"""Tests of mask scores from evidence against scikit-learn on the pixels themselves."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from datamodules.loading.letterbox import ContentBox
from evaluation.bootstrap import bootstrap_caveat, bootstrap_metrics, bootstrap_weights
from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import quantize_logits
from evaluation.logit_histogram import logit_histograms
from evaluation.metrics.segmentation import SEGMENTATION_METRICS, dice
from evaluation.rule_modules import SegmentationRule

RULES = [(128.0, 0.0, 128.0), (134.0, 0.04, 120.0), (131.0, 0.09, 140.0)]


def scene(images: int = 24, side: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and truths that agree somewhat; a quarter of the images without lesion."""
    random = torch.Generator().manual_seed(seed)
    truth = torch.zeros(images, 1, side, side, dtype=torch.uint8)
    for i in range(images - images // 4):
        top, left = torch.randint(0, side - 12, (2,), generator=random).tolist()
        truth[i, 0, top : top + 5 + i % 7, left : left + 9] = 1
    return 3 * truth.float() - 2 + 1.6 * torch.randn(truth.shape, generator=random), truth


def evidence_of(
    logits: torch.Tensor, truth: torch.Tensor, rule=RULES[0], groups=None
) -> SegmentationEvidence:
    n, side = len(logits), logits.shape[-1]
    counts = logit_histograms(logits, truth, [ContentBox(0, 0, side, side)] * n).numpy()
    ids = np.array([f"i{k:03d}" for k in range(n)])
    groups = ids if groups is None else np.array(groups)
    return SegmentationEvidence(
        ids=ids,
        groups=groups,
        counts=counts,
        rule=np.tile(rule, (n, 1, 1)),
        classes=("lesion",),
        grid="native",
    )


@pytest.mark.parametrize("rule", RULES)
def test_the_decision_equals_the_mask_rule_on_the_maps(rule):
    logits, truth = scene()
    module = SegmentationRule(1)
    module.values = torch.tensor([rule], dtype=torch.float64)
    masks = module(logits)
    decided = evidence_of(logits, truth, rule).decision(0).pixels
    for name, brute in {
        "tp": masks & (truth > 0),
        "fp": masks & (truth == 0),
        "fn": ~masks & (truth > 0),
        "tn": ~masks & (truth == 0),
    }.items():
        assert np.array_equal(getattr(decided, name), brute.sum((1, 2, 3)).numpy()), name


@pytest.mark.parametrize("rule", RULES)
def test_every_score_equals_scikit_learn(rule):
    logits, truth = scene()
    module = SegmentationRule(1)
    module.values = torch.tensor([rule], dtype=torch.float64)
    masks, true = module(logits).numpy().reshape(24, -1), truth.numpy().reshape(24, -1)
    found = {
        name: e.value
        for name, e in bootstrap_metrics(evidence_of(logits, truth, rule), resamples=10)[
            "lesion"
        ].items()
    }
    each = [metrics.f1_score(t, m, zero_division=1.0) for t, m in zip(true, masks, strict=True)]
    jaccard = [
        metrics.jaccard_score(t, m, zero_division=1.0) if t.any() or m.any() else 1.0
        for t, m in zip(true, masks, strict=True)
    ]
    lesion = true.any(1)
    enough = max(1, int(np.ceil(rule[1] * true.shape[1])))
    surest = np.sort(quantize_logits(logits).numpy().reshape(24, -1), axis=1)[
        :, -enough
    ]  # the byte that so many pixels reach
    flat, pooled = true.ravel(), masks.ravel()
    wanted = {
        "dice": np.mean(each),
        "dice_lesions": np.mean(np.array(each)[lesion]),
        "dice_pooled": metrics.f1_score(flat, pooled),
        "iou": np.mean(jaccard),
        "iou_lesions": np.mean(np.array(jaccard)[lesion]),
        "iou_pooled": metrics.jaccard_score(flat, pooled),
        "precision": metrics.precision_score(flat, pooled),
        "recall": metrics.recall_score(flat, pooled),
        "f1": metrics.f1_score(flat, pooled),
        "accuracy": metrics.accuracy_score(flat, pooled),
        "average_precision": metrics.average_precision_score(
            flat, quantize_logits(logits).numpy().ravel()
        ),
        "image_auc": metrics.roc_auc_score(lesion, surest),
        "image_sensitivity": metrics.recall_score(lesion, masks.any(1)),
        "image_specificity": metrics.recall_score(~lesion, ~masks.any(1)),
    }
    assert found == pytest.approx(wanted, abs=1e-9) and set(wanted) == {
        score.name for score in SEGMENTATION_METRICS
    }


@pytest.mark.parametrize(("factor", "shift"), [(1, 0), (3, 0), (1, 5), (1, -5), (3, 5)])
def test_average_precision_survives_sharpened_and_shifted_logits(factor, shift):
    logits, truth = scene(images=40, side=48)
    logits = logits * factor + shift
    exact = metrics.average_precision_score(truth.numpy().ravel(), logits.numpy().ravel())
    assert bootstrap_metrics(evidence_of(logits, truth), resamples=10)["lesion"][
        "average_precision"
    ].value == pytest.approx(exact, abs=0.01)


def test_trivial_predictions_score_what_they_must():
    logits, truth = scene()
    seen = evidence_of(logits, truth)
    true = truth.numpy().reshape(24, -1)
    assert dice(seen.baselines(0)["all empty"].pixels).mean() == pytest.approx(
        (~true.any(1)).mean()
    )
    assert dice(seen.baselines(0)["all positive"].pixels).mean() == pytest.approx(
        np.mean([2 * t.sum() / (t.sum() + t.size) for t in true])
    )
    found = bootstrap_metrics(seen, resamples=10)["lesion"]
    assert found["average_precision"].trivial["all positive"] == pytest.approx(true.mean())
    assert (
        found["precision"].trivial["all empty"] == 0
        and found["recall"].trivial["all positive"] == 1
    )


def test_intervals_equal_a_plain_bootstrap_by_group():
    logits, truth = scene(images=60)
    groups = [f"p{i // 2}" for i in range(60)]
    seen = evidence_of(logits, truth, groups=groups)
    each = dice(seen.decision(0).pixels)
    weights = np.concatenate(list(bootstrap_weights(seen.groups, 400)))
    by_hand = [np.repeat(each, w.astype(int)).mean() for w in weights]
    found = bootstrap_metrics(seen, resamples=400)["lesion"]["dice"]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    assert (weights[:, ::2] == weights[:, 1::2]).all() and (weights.sum(1) == 60).all()
    assert found.low < found.value < found.high and found.n == 60 and found.degenerate == 0


def test_few_groups_have_no_interval_and_undefined_resamples_are_counted():
    logits, truth = scene()
    few = evidence_of(logits, truth, groups=["a", "b"] * 12)
    assert bootstrap_metrics(few)["lesion"]["dice"].low is None and "2 groups" in bootstrap_caveat(
        few
    )
    truth[1:] = 0  # one lesion in all: a resample without it has no recall
    found = bootstrap_metrics(evidence_of(logits, truth), resamples=200)["lesion"]["recall"]
    assert 40 < found.degenerate < 110 and found.low is not None
    assert "assumes independent images" in bootstrap_caveat(evidence_of(logits, truth))
