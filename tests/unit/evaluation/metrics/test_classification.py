"""Tests of label scores against scikit-learn and torchmetrics.

They cover one class, several and exclusive ones; intervals are compared with a plain bootstrap.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from evaluation.bootstrap import (
    CLASS_MEAN,
    bootstrap_metrics,
    bootstrap_scores,
    bootstrap_weights,
)
from evaluation.evidence import ClassificationEvidence
from evaluation.rule_modules import ClassificationRule


def evidence_of(
    logits, labels, rule=(0.5, 1.0, 1.0), groups=None, exclusive=False
) -> ClassificationEvidence:
    logits, labels = np.asarray(logits, np.float32), np.asarray(labels, np.uint8)
    ids = np.array([f"i{n:03d}" for n in range(len(logits))])
    classes = tuple(f"c{c}" for c in range(logits.shape[1]))
    numbers = np.tile(np.array(rule), (len(logits), logits.shape[1], 1))
    groups = ids if groups is None else np.array(groups)
    return ClassificationEvidence(
        ids=ids,
        groups=groups,
        rule=numbers,
        classes=classes,
        logits=logits,
        labels=labels,
        exclusive=exclusive,
    )


def drawn(n=200, classes=1, seed=0, ties=True):
    random = np.random.default_rng(seed)
    labels = (random.random((n, classes)) < 0.4).astype(np.uint8)
    logits = random.normal(size=(n, classes)) * 1.5 + labels - 0.3
    return (np.round(logits, 1) if ties else logits), labels


def values(seen, name="c0") -> dict[str, float]:
    return {score: e.value for score, e in bootstrap_metrics(seen, resamples=2)[name].items()}


@pytest.mark.parametrize("rule", [(0.5, 1.0, 1.0), (0.31, 1.7, 1.0)])
def test_every_score_of_one_class_is_the_reference_s(rule):
    logits, labels = drawn()
    found = values(evidence_of(logits, labels, rule))
    y, p = (
        labels[:, 0],
        1 / (1 + np.exp(-logits[:, 0].astype(np.float32).astype(np.float64) / rule[1])),
    )
    says = p >= rule[0]
    wanted = {
        "f1": metrics.f1_score(y, says),
        "auc": metrics.roc_auc_score(y, p),
        "average_precision": metrics.average_precision_score(y, p),
        "accuracy": metrics.accuracy_score(y, says),
        "precision": metrics.precision_score(y, says),
        "recall": metrics.recall_score(y, says),
        "specificity": metrics.recall_score(1 - y, ~says),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, says),
        "brier": metrics.brier_score_loss(y, p),
        "nll": metrics.log_loss(y, p),
        "ece": float(
            binary_calibration_error(torch.tensor(p), torch.tensor(y.astype(int)), n_bins=15)
        ),
    }
    assert found == pytest.approx(wanted, abs=1e-6)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30), st.data())
def test_weighted_rankings_are_those_of_repeated_images(pairs, data):
    logits, labels = np.array([[float(a)] for a, _ in pairs]), np.array([[b] for _, b in pairs])
    weights = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)))
    )
    seen, times = evidence_of(logits, labels), np.repeat(np.arange(len(pairs)), weights)
    repeated = labels[times, 0]
    for score in seen.metrics:
        if score.name not in ("auc", "average_precision"):
            continue
        value = score.compute(seen.decision(0), weights[None].astype(float))[0]
        if not repeated.any() or (score.name == "auc" and repeated.all()):
            assert np.isnan(value)
        else:
            reference = {
                "auc": metrics.roc_auc_score,
                "average_precision": metrics.average_precision_score,
            }[score.name]
            assert value == pytest.approx(reference(repeated, logits[times, 0]))


def test_several_classes_have_their_own_scores_a_mean_and_exact_match():
    logits, labels = drawn(classes=3)
    seen = evidence_of(logits, labels)
    says = seen.probability >= 0.5
    each = [values(seen, f"c{c}") for c in range(3)]
    assert each[1]["auc"] == pytest.approx(metrics.roc_auc_score(labels[:, 1], logits[:, 1]))
    assert values(seen, CLASS_MEAN)["f1"] == pytest.approx(
        metrics.f1_score(labels, says, average="macro")
    )
    assert values(seen, CLASS_MEAN)["exact_match"] == pytest.approx(
        metrics.accuracy_score(labels, says)
    )
    none = bootstrap_metrics(seen, resamples=2)[CLASS_MEAN]["exact_match"].trivial["all negative"]
    assert none == pytest.approx((labels.sum(1) == 0).mean())


def test_exclusive_classes_are_decided_by_the_most_probable_one():
    random = np.random.default_rng(1)
    true = random.integers(3, size=150)
    logits = random.normal(size=(150, 3)) + np.eye(3)[true]
    seen = evidence_of(logits, np.eye(3)[true], exclusive=True)
    assert np.allclose(seen.probability.sum(1), 1)
    assert np.array_equal(seen.predicted.argmax(1), logits.argmax(1))
    assert np.array_equal(
        ClassificationRule(3, exclusive=True)(torch.tensor(logits)).numpy(), seen.predicted
    )


@pytest.mark.parametrize("never", [None, 2])
def test_scores_of_exclusive_classes_have_the_field_s_definitions(never):
    """One class may never be predicted, which counts as a precision and F1 of 0."""
    random = np.random.default_rng(1)
    true = random.choice(3, size=150, p=[0.6, 0.3, 0.1])
    logits = 2 * random.normal(size=(150, 3)) + np.eye(3)[true]
    if never is not None:
        logits[:, never] -= 20
    seen = evidence_of(logits, np.eye(3)[true], exclusive=True)
    said, p = logits.argmax(1), seen.probability
    found = values(seen, CLASS_MEAN)
    macro = {"average": "macro", "zero_division": 0}
    wanted = {
        "accuracy": metrics.accuracy_score(true, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, said),
        "precision": metrics.precision_score(true, said, **macro),
        "recall": metrics.recall_score(true, said, **macro),
        "f1": metrics.f1_score(true, said, **macro),
        "auc": metrics.roc_auc_score(true, p, multi_class="ovr", average="macro"),
        "nll": metrics.log_loss(true, p),
        "brier": ((p - np.eye(3)[true]) ** 2).sum(1).mean(),
        "ece": float(
            multiclass_calibration_error(
                torch.tensor(p), torch.tensor(true), num_classes=3, n_bins=15
            )
        ),
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert "exact_match" not in found
    each = [values(seen, f"c{c}") for c in range(3)]
    assert [one["accuracy"] for one in each] == [found["accuracy"]] * 3
    assert [one["recall"] for one in each] == pytest.approx(
        metrics.recall_score(true, said, average=None)
    )
    trivial = bootstrap_metrics(seen, resamples=2)[CLASS_MEAN]["accuracy"].trivial
    assert trivial["prevalence"] == pytest.approx((true == 0).mean())


@pytest.mark.parametrize("classes", [1, 3])
def test_the_interval_of_a_calibration_error_contains_it(classes):
    """Absolute gaps grow with noise: each replicate of a small test set has a larger error."""
    random = np.random.default_rng(4)
    true = random.integers(max(2, classes), size=60)
    labels = np.eye(3)[true] if classes == 3 else true[:, None]
    logits = random.normal(size=(60, classes)) * 0.1
    seen = evidence_of(logits, labels, exclusive=classes == 3)
    estimate = bootstrap_metrics(seen)["c0"]["ece"]
    draws = bootstrap_scores(seen, ["ece"])[0]
    assert draws.mean() > estimate.value
    assert estimate.low < estimate.value < estimate.high
    assert estimate.low >= 0
    assert estimate.high < np.quantile(draws, 0.975)


def test_the_rule_of_the_network_is_the_rule_of_the_evidence():
    logits, labels = drawn(classes=2, ties=False)
    rule = ClassificationRule(2)
    rule.values = torch.tensor([[0.3, 1.5, 1.0], [0.62, 0.7, 1.0]], dtype=torch.float64)
    seen = evidence_of(logits, labels).with_rule(rule.values)
    assert np.array_equal(rule(torch.tensor(logits, dtype=torch.float32)).numpy(), seen.predicted)


def test_predictions_without_skill_score_what_they_should():
    logits, labels = drawn()
    found = bootstrap_metrics(evidence_of(logits, labels), resamples=2)["c0"]
    share = labels.mean()
    assert found["accuracy"].trivial == pytest.approx(
        {"all negative": 1 - share, "all positive": share, "prevalence": max(share, 1 - share)}
    )
    assert found["brier"].trivial["prevalence"] == pytest.approx(share * (1 - share)) and found[
        "ece"
    ].trivial["prevalence"] == pytest.approx(0)
    assert (
        set(found["auc"].trivial.values()) == {0.5} and found["recall"].trivial["all positive"] == 1
    )
    assert (
        found["recall"].n == labels.sum()
        and found["specificity"].n == (labels == 0).sum()
        and found["auc"].n == 200
    )


def test_intervals_equal_a_plain_bootstrap_by_patient():
    logits, labels = drawn()
    groups = [f"p{i // 4}" for i in range(200)]
    seen = evidence_of(logits, labels, groups=groups)
    found = bootstrap_metrics(seen, resamples=300)["c0"]["auc"]
    weights = np.concatenate(list(bootstrap_weights(seen.groups, 300))).astype(int)
    by_hand = [
        metrics.roc_auc_score(np.repeat(labels[:, 0], w), np.repeat(logits[:, 0], w))
        for w in weights
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    few = evidence_of(logits, labels, groups=[f"p{i % 10}" for i in range(200)])
    assert bootstrap_metrics(few, resamples=10)["c0"]["auc"].low is None


def test_a_temperature_changes_no_ranking():
    logits, labels = drawn(ties=False)
    plain, sharp = (
        values(evidence_of(logits * 9, labels)),
        values(evidence_of(logits * 9, labels, (0.5, 0.05, 1.0))),
    )
    assert (
        plain["auc"] == sharp["auc"]
        and plain["average_precision"] == sharp["average_precision"]
        and plain["brier"] != sharp["brier"]
    )


def test_by_patient_the_most_suspicious_image_decides():
    logits, labels = [[-2.0], [1.0], [0.5], [-1.0], [-3.0], [2.0]], [[0], [0], [1], [0], [0], [1]]
    patients = ["b", "a", "b", "a", "c", "c"]
    found = evidence_of(logits, labels, rule=(0.7, 1.0, 1.0), groups=patients).by_group()
    assert found.ids.tolist() == found.groups.tolist() == ["a", "b", "c"]
    assert found.logits[:, 0].tolist() == [1.0, 0.5, 2.0] and found.labels[:, 0].tolist() == [
        0,
        1,
        1,
    ]
    assert found.predicted[:, 0].tolist() == [True, False, True]  # sigmoid(1) = .731
    assert values(found)["auc"] == pytest.approx(metrics.roc_auc_score([0, 1, 1], [1.0, 0.5, 2.0]))
