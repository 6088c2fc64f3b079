"""Tests of mean, spread and interval over seeds against a bootstrap by hand and a single run."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import bootstrap_metrics, bootstrap_weights, seed_statistics
from tests.factories.fold_runs import TEST, seen


def auc(evidence) -> float:
    return roc_auc_score(evidence.labels[:, 0], evidence.logits[:, 0])


def test_the_interval_draws_patients_for_all_seeds_at_once_and_seeds_too():
    variant = [seen(TEST, seed) for seed in (1, 2, 3)]
    found = seed_statistics(variant, resamples=80)["lesion"]["auc"]
    weights = np.concatenate(list(bootstrap_weights(variant[0].groups, 80))).astype(int)
    picked = np.random.default_rng([0, 0]).integers(3, size=(3, 80))
    truth = variant[0].labels[:, 0]
    drawn = []
    for r, w in enumerate(weights):
        each = [
            roc_auc_score(np.repeat(truth, w), np.repeat(run.logits[:, 0], w)) for run in variant
        ]
        drawn.append(np.mean([each[seed] for seed in picked[:, r]]))
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found["value"] == pytest.approx(np.mean([auc(run) for run in variant])) and found[
        "n"
    ] == len(TEST)


def test_of_one_seed_it_is_the_interval_of_that_seed():
    one = seen(TEST, 1)
    plain, found = bootstrap_metrics(one)["lesion"], seed_statistics([one])["lesion"]
    for name, estimate in plain.items():
        same = (
            found[name]["value"],
            found[name]["low"],
            found[name]["high"],
            found[name]["n"],
            found[name]["trivial"],
        )
        assert same == (
            pytest.approx(estimate.value),
            estimate.low,
            estimate.high,
            estimate.n,
            pytest.approx(estimate.trivial, nan_ok=True),
        )
    assert found["auc"]["sd"] is None
