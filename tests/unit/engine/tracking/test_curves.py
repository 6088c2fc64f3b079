"""Tests of curves over thresholds against scikit-learn and hand computations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import auc, f1_score, roc_auc_score

from engine.tracking.results import MAX_POINTS, report_curves
from tests.unit.engine.tracking.conftest import labels, masks


def test_curves_of_a_classification(tmp_path):
    seen = labels(1)
    found = report_curves({"val": labels(3), "test": seen})
    assert [list(panel.lines) for panel in found.values()] == [["val", "test"]] * 3
    truth, probability = seen.labels[:, 0], expit(seen.logits[:, 0])
    assert auc(*found["roc"].lines["test"]) == pytest.approx(roc_auc_score(truth, probability))
    thresholds, f1 = found["f1_by_threshold"].lines["test"]
    assert f1.tolist() == pytest.approx(
        [f1_score(truth, probability >= t, zero_division=0) for t in thresholds]
    )


def test_curves_of_masks():
    seen = masks(1)
    found = report_curves({"test": seen})
    thresholds, dice = found["dice_by_threshold"].lines["test"]
    byte = 130
    tp, fp, true = (
        seen.counts[:, 0, 1, byte:].sum(1),
        seen.counts[:, 0, 0, byte:].sum(1),
        seen.counts[:, 0, 1].sum(1),
    )
    by_hand = np.where(tp + fp + true > 0, 2 * tp / np.maximum(1, tp + fp + true), 1.0).mean()
    assert dice[byte] == pytest.approx(by_hand) and thresholds[byte] == pytest.approx(
        expit(byte / 8 - 16)
    )
    recall, precision = found["precision_recall"].lines["test"]
    place = int(np.abs(recall - tp.sum() / true.sum()).argmin())
    assert precision[place] == pytest.approx(tp.sum() / (tp + fp).sum())


def test_a_long_curve_keeps_its_ends_and_a_class_that_never_shows_has_none():
    seen = labels(1)
    many = 4 * MAX_POINTS
    logits = np.random.default_rng(0).normal(size=(many, 1)).astype(np.float32)
    names = {
        "ids": np.arange(many).astype(str),
        "groups": np.arange(many).astype(str),
        "rule": np.tile(seen.rule[:1], (many, 1, 1)),
    }
    long = replace(
        seen, logits=logits, labels=(np.arange(many)[:, None] % 2).astype(np.uint8), **names
    )
    false, true = report_curves({"test": long})["roc"].lines["test"]
    assert len(false) <= MAX_POINTS and (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert report_curves({"test": replace(seen, labels=np.zeros_like(seen.labels))}) == {}
