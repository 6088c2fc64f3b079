"""Tests of threshold search against brute force, unreachable bounds and temperatures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from datamodules.errors import UserError
from evaluation.rule_search import fit_temperature, search_classification_rule
from evaluation.threshold_objective import ThresholdObjective

ANY = (0.0, 1.0)


def objective(name, min_metrics, threshold_range) -> ThresholdObjective:
    return ThresholdObjective(
        objective=name, min_metrics=min_metrics, threshold_range=threshold_range
    )


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=4, max_size=40))
def test_no_threshold_scores_better_than_the_one_found(pairs):
    p, y = np.array([a / 20 for a, _ in pairs]), np.array([b for _, b in pairs])
    if not y.any() or y.all():
        return
    found = search_classification_rule(p, y, objective("f1", {}, ANY))
    tried = [
        f1_score(y, p >= t, zero_division=0) for t in np.linspace(0, 1.05, 43)
    ]  # one in each gap between p's 21 values, one at each value
    assert (
        found.score == pytest.approx(max(tried)) == pytest.approx(f1_score(y, p >= found.threshold))
    )
    assert (
        found.no_better_than_constant == (max(tried) <= f1_score(y, np.ones(len(y))) + 1e-9)
        and found.unmet_bound is None
    )


def test_youden_and_accuracy_by_hand():
    p, y = (
        np.array([0.1, 0.2, 0.35, 0.4, 0.7, 0.9]),
        np.array([False, False, True, False, True, True]),
    )
    assert search_classification_rule(p, y, objective("youden", {}, ANY)).score == pytest.approx(
        2 / 3
    )
    found = search_classification_rule(p, y, objective("accuracy", {}, ANY))
    assert found.score == pytest.approx(5 / 6) and found.score_at_half == pytest.approx(5 / 6)
    separated = search_classification_rule(
        np.array([0.1, 0.2, 0.8]), np.array([False, False, True]), objective("f1", {}, ANY)
    )
    assert (
        separated.threshold == pytest.approx(0.5) and separated.score == 1
    )  # the middle of the gap


def test_ties_take_the_middle_of_the_plateau():
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2])
    found = search_classification_rule(
        p, p > 0.5, objective("specificity", {"sensitivity": 0.5}, ANY)
    )  # .75, .65 and .45 all have specificity 1
    assert found.score == 1 and found.threshold == pytest.approx(0.65)


def test_a_bound_is_kept_at_the_best_objective_under_it():
    random = np.random.default_rng(0)
    y = random.random(300) < 0.3
    p = 1 / (1 + np.exp(-(random.normal(size=300) + 1.2 * y - 1)))
    free, bound = (
        search_classification_rule(p, y, objective("f1", {}, ANY)),
        search_classification_rule(p, y, objective("f1", {"sensitivity": 0.95}, ANY)),
    )
    assert (
        recall_score(y, p >= bound.threshold) >= 0.95 > recall_score(y, p >= free.threshold)
        and bound.unmet_bound is None
    )
    kept = [f1_score(y, p >= t) for t in np.unique(p) if recall_score(y, p >= t) >= 0.95]
    assert bound.score == pytest.approx(max(kept))


def test_the_best_specificity_at_a_sensitivity_and_the_reverse():
    random = np.random.default_rng(1)
    y = random.random(400) < 0.4
    p = 1 / (1 + np.exp(-(random.normal(size=400) + 1.5 * y - 1)))
    found = search_classification_rule(p, y, objective("specificity", {"sensitivity": 0.85}, ANY))
    kept = [recall_score(~y, p < t) for t in np.unique(p) if recall_score(y, p >= t) >= 0.85]
    assert (
        found.score == pytest.approx(max(kept))
        and recall_score(y, p >= found.threshold) >= 0.85
        and not found.no_better_than_constant
    )
    reverse = search_classification_rule(p, y, objective("sensitivity", {"specificity": 0.85}, ANY))
    kept = [recall_score(y, p >= t) for t in np.unique(p) if recall_score(~y, p < t) >= 0.85]
    assert reverse.score == pytest.approx(max(kept))
    useless = search_classification_rule(
        np.full(400, 0.3), y, objective("specificity", {"sensitivity": 0.85}, ANY)
    )
    assert useless.no_better_than_constant
    with pytest.raises(
        UserError,
        match=(
            r"sens_atleast is unknown; set specificity with"
            r" callbacks\.threshold_search\.min_metrics\.sensitivity=0\.85"
        ),
    ):
        objective("sens_atleast", {}, ANY)


def test_a_bound_out_of_reach_says_the_best_that_is_reached():
    p, y = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    both = search_classification_rule(
        p, y, objective("f1", {"sensitivity": 0.9, "specificity": 0.9}, ANY)
    )
    assert (
        "reaches specificity >= 0.9 beside sensitivity >= 0.9 on val; the best reachable is 0.5000"
        in str(both.unmet_bound)
    )
    narrow = search_classification_rule(p, y, objective("f1", {"sensitivity": 0.9}, (0.5, 0.8)))
    assert (
        "no threshold from 0.5 to 0.8 reaches sensitivity >= 0.9 on val; the best reachable is"
        " 0.5000" in str(narrow.unmet_bound)
    )
    assert 0.5 <= narrow.threshold <= 0.8


NEVER = [
    ("f2", {}, ANY),
    ("f1", {"sensitivity": 1.2}, ANY),
    ("f1", {"recall": 0.5}, ANY),
    ("f1", {}, (0.7, 0.2)),
    ("specificity", {}, ANY),
]


@pytest.mark.parametrize("demand", NEVER)
def test_what_nobody_can_keep_is_refused_at_once(demand):
    with pytest.raises(UserError, match=r"^ThresholdObjective: "):
        objective(*demand)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_logits_too_sure_is_found(true):
    random = np.random.default_rng(2)
    calibrated = random.normal(size=20000) * 2
    y = random.random(20000) < 1 / (1 + np.exp(-calibrated))
    assert fit_temperature(calibrated * true, y, exclusive=False) == pytest.approx(true, rel=0.05)
    several = random.normal(size=(20000, 3)) * 2
    share = np.exp(several) / np.exp(several).sum(1, keepdims=True)
    label = np.eye(3)[[random.choice(3, p=row) for row in share]]
    assert fit_temperature(several * true, label, exclusive=True) == pytest.approx(true, rel=0.05)


def test_one_label_alone_leaves_nothing_to_search():
    p = np.array([0.01, 0.02, 0.09])
    found = search_classification_rule(
        p, np.zeros(3, bool), objective("f1", {"sensitivity": 0.9}, ANY)
    )
    assert (
        found.threshold == 0.5
        and found.unmet_bound is None
        and "val has only one label" in str(found.skip_reason)
    )
    assert fit_temperature(np.array([3.0, 2.0]), np.array([1, 1]), exclusive=False) == 1.0


@pytest.mark.parametrize(
    ("allowed", "named"),
    [((0.0, 1.0), False), ((0.0, 0.5), True), ((0.9, 1.0), True), ((0.6, 0.9), False)],
)
def test_a_best_threshold_at_the_end_of_a_narrow_range_is_noted(allowed, named):
    p, y = np.array([0.1, 0.6, 0.65, 0.85, 0.95]), np.array([0, 0, 0, 1, 1], bool)
    assert search_classification_rule(p, y, objective("f1", {}, allowed)).at_bound is named
