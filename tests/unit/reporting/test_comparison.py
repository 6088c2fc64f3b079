"""Tests of comparing variants by bootstrap; runs that differ in seed alone are one variant."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from datamodules.errors import UserError
from evaluation.bootstrap import PairedDifference, bootstrap_weights, paired_differences
from evaluation.evidence import write_evidence
from reporting.comparison import compare_runs
from reporting.ranking import BEST_ON_VAL, WORSE, significance_label
from reporting.run_folder import RunFolder, group_by_config
from tests.unit.evaluation.metrics.test_classification import drawn, evidence_of
from tests.unit.evaluation.metrics.test_segmentation import evidence_of as masks_of
from tests.unit.evaluation.metrics.test_segmentation import scene


def two_runs(patients=50):
    logits, labels = drawn(n=200, ties=False)
    groups = [f"p{i % patients}" for i in range(200)]
    noisy = logits + np.random.default_rng(5).normal(size=logits.shape) * 2
    return evidence_of(noisy, labels, groups=groups), evidence_of(logits, labels, groups=groups)


def test_the_interval_of_a_difference_draws_the_same_patients_for_both():
    worse, better = two_runs()
    found = paired_differences([worse], [better], resamples=300)["auc"]
    weights = np.concatenate(list(bootstrap_weights(worse.groups, 300))).astype(int)
    gaps = []
    for w in weights:
        truth, first, second = (
            np.repeat(values[:, 0], w) for values in (worse.labels, worse.logits, better.logits)
        )
        gaps.append(roc_auc_score(truth, second) - roc_auc_score(truth, first))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])))
    assert found.low < found.value < found.high and found.share_above == pytest.approx(
        np.mean(np.array(gaps) > 1e-12)
    )
    back = paired_differences([better], [worse], resamples=300)["auc"]
    assert back.value == pytest.approx(-found.value) and back.low == pytest.approx(-found.high)


def test_several_seeds_widen_the_interval_by_their_own_spread():
    worse, better = two_runs()
    hopeless = replace(better, logits=-better.logits)
    steady = paired_differences([worse], [better, better], resamples=400)["auc"]
    shaky = paired_differences([worse], [better, hopeless], resamples=400)["auc"]
    auc = [roc_auc_score(seen.labels[:, 0], seen.logits[:, 0]) for seen in (worse, better)]
    assert steady.value == pytest.approx(auc[1] - auc[0]) and shaky.value == pytest.approx(
        0.5 - auc[0]
    )
    assert shaky.high - shaky.low > 2 * (steady.high - steady.low)
    few = two_runs(patients=10)
    assert paired_differences([few[0]], [few[1]], resamples=20)["auc"].low is None


def finished(folder, title="t", seed=0, rank=8, evidence=None):
    evidence = evidence or two_runs()[0]
    config = {
        "seed": seed,
        "title": title,
        "paths": {"run": str(folder)},
        "datamodule": {"seed": seed},
    }
    config |= {"module": {"rank": rank, "file": f"{folder}/x"}}
    value = {name: {"value": 0.5, "low": None, "high": None} for name in evidence.headline_metrics}
    report = {
        "title": title,
        "scores": {"val": {"c": value}, "test": {"c": value}},
        "config": config,
        "data": {"phantom": True},
    }
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    write_evidence(evidence, folder / "evidence/test.npz")
    return RunFolder(folder)


def test_arms_are_told_apart_by_what_they_differ_in(tmp_path):
    runs = [
        finished(tmp_path / f"{n}", rank=rank, seed=seed)
        for n, (rank, seed) in enumerate([(8, 0), (8, 1), (4, 0)])
    ]
    found = group_by_config([*runs, finished(tmp_path / "o", "other")])
    assert {name: len(group) for name, group in found.items()} == {
        "t (rank=8)": 2,
        "t (rank=4)": 1,
        "other": 1,
    }


def test_a_comparison_names_its_runs_safely_and_refuses_other_images(tmp_path):
    worse, better = two_runs()
    for name, seen in (("a", worse), ("b", better)):
        finished(tmp_path / name, f"<b>{name}</b>", evidence=seen)
    found = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "both")
    page = (tmp_path / "both/comparison.html").read_text()
    assert "<b>a</b>" not in page and "&lt;b&gt;a&lt;/b&gt;" in page and len(found["variants"]) == 2
    finished(tmp_path / "c", evidence=two_runs()[0].exclude({"i000"}))
    with pytest.raises(UserError, match="were evaluated on different images"):
        compare_runs([str(tmp_path / "a"), str(tmp_path / "c")], tmp_path / "no")
    assert (
        found["variants"][1]["verdict"]
        == significance_label(PairedDifference(**found["variants"][1]["differences"]["f1"]))
        and found["variants"][0]["verdict"] == BEST_ON_VAL
    )
    assert found["variants"][1]["verdict"] in page and "ranked by val f1" in page
    with pytest.raises(UserError, match=r"holds no report\.json"):
        compare_runs([str(tmp_path / "a"), str(tmp_path / "both")], tmp_path / "no")


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path):
    a = finished(tmp_path / "a").path
    finished(tmp_path / "mask", evidence=masks_of(*scene()))
    for runs, wrong in {
        (): "no runs to compare; name their folders with runs=",
        (a,): "needs at least two finished runs",
        (a, tmp_path / "b/../a"): "needs at least two finished runs",
        (
            a,
            tmp_path / "mask",
        ): "labels and .* masks, which have no common score; compare runs of one task",
    }.items():
        (tmp_path / "b").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=wrong):
            compare_runs([str(run) for run in runs], tmp_path / "no")
    (finished(tmp_path / "cut").path / "report.json").write_text('{"title": "t", "sc')
    with pytest.raises(
        UserError,
        match=(
            r"cut/report\.json is not a report that can be read \(.*\); test the run again with"
            r" do=\[test\] ckpt_path="
        ),
    ):
        compare_runs([str(a), str(tmp_path / "cut")], tmp_path / "no")


def test_arms_of_a_score_that_falls_are_ranked_from_the_least(tmp_path):
    better = two_runs()[1]
    for name, seen, brier in (
        ("a", replace(better, logits=-better.logits), 0.3),
        ("b", better, 0.2),
    ):
        run = finished(tmp_path / name, name, evidence=seen)
        told = json.loads((run.path / "report.json").read_text())
        told["config"]["monitor"] = {"name": "val/brier", "mode": "min"}
        told["scores"]["val"]["c"] |= {score: {"value": brier} for score in ("brier", "auc")}
        told["scores"]["test"]["c"] |= {"brier": {"value": brier}}
        (run.path / "report.json").write_text(json.dumps(told))
    found = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    assert [variant["title"] for variant in found["variants"]] == ["b", "a"]
    gap = found["variants"][1]["differences"]["brier"]
    assert gap["low"] > 0 and found["variants"][1]["verdict"] == WORSE
    assert pd.read_csv(tmp_path / "out/comparison.csv")["val brier"].tolist() == [0.2, 0.3]


def test_the_leaderboard_ranks_by_what_was_monitored_and_holds_the_threshold(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path, auc, f1 in zip(paths, (0.7, 0.9), (0.8, 0.6), strict=True):
        finished(path, seed=int(auc * 10))
        report = json.loads((path / "report.json").read_text())
        report["config"]["monitor"] = {"name": "val/auc", "mode": "max"}
        report["rule"] = {"c": {"threshold": auc / 2, "temperature": 1.0}}
        report["scores"]["val"]["c"] |= {"auc": {"value": auc}, "f1": {"value": f1}}
        (path / "report.json").write_text(json.dumps(report))
    compare_runs([str(path) for path in paths], tmp_path / "out")
    board = pd.read_csv(tmp_path / "out/comparison.csv")
    assert board["run"].tolist() == [str(paths[1]), str(paths[0])] and board[
        "val auc"
    ].tolist() == [0.9, 0.7]
    assert board["threshold"].tolist() == [0.45, 0.35] and {
        "val recall",
        "val specificity",
        "f1",
        "f1 low",
        "f1 high",
    } <= set(board)
    assert "ranked by val auc" in (tmp_path / "out/comparison.html").read_text()
