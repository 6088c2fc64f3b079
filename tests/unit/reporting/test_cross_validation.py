"""Tests of merging a multirun over folds and seeds.

Merged evidence is compared with its parts, intervals with a bootstrap by hand; missing parts are
reported.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import paired_differences
from evaluation.evidence import read_evidence
from reporting.cross_validation import merge_run_folds, merge_sweep_runs
from reporting.fold_runs import load_fold_runs
from reporting.out_of_fold import group_by_seed, merge_out_of_fold, stack_seeds
from tests.factories.fold_runs import NAMES, POOL, TEST, cut, fit, report_of, seen, sweep


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    """Three folds of two seeds, merged."""
    folder = sweep(tmp_path_factory.mktemp("sweeps") / "grid", folds=3, seeds=[1, 2])
    merge_sweep_runs(folder)
    return folder


def auc(evidence) -> float:
    return roc_auc_score(evidence.labels[:, 0], evidence.logits[:, 0])


def test_a_seed_s_folds_judge_every_image_once_at_the_rule_of_its_own_fold(grid):
    merged = read_evidence(grid / "merged/seed2/evidence/out_of_fold.npz")
    own = cut(3)
    assert sorted(merged.ids) == sorted(NAMES[POOL])
    by_id = dict(zip(merged.ids.tolist(), merged.rule[:, 0, 0].tolist(), strict=True))
    assert by_id == pytest.approx(
        {
            name: 0.4 + 0.02 * fold
            for name, fold in zip(NAMES[POOL].tolist(), own.tolist(), strict=True)
        }
    )
    report = report_of(grid / "merged/seed2")
    assert report["scores"]["out_of_fold"]["lesion"]["auc"]["value"] == pytest.approx(
        auc(seen(POOL, 2))
    )
    assert report["folds"][1]["val"] == pytest.approx(auc(seen(POOL[own == 1], 2)))
    assert report["folds_mean"]["val"] == pytest.approx(
        np.mean([auc(seen(POOL[own == fold], 2)) for fold in range(3)])
    )


def test_the_page_leads_with_the_mean_over_seeds_and_holds_every_fit(grid):
    report, page = report_of(grid), (grid / "report.html").read_text()
    each = [auc(seen(POOL, seed)) for seed in (1, 2)]
    found = report["scores"]["out_of_fold"]["lesion"]["auc"]
    assert found["value"] == pytest.approx(np.mean(each)) and found["sd"] == pytest.approx(
        np.std(each, ddof=1)
    )
    assert (
        f"{found['value']:.4f}" in page
        and "3 folds x 2 seeds" in page
        and "means of 2 seeds" in report["caveat"]["out_of_fold"]
    )
    values = np.array(
        [[auc(seen(POOL[cut(3) == fold], seed)) for seed in (1, 2)] for fold in range(3)]
    )
    matrix = report["matrix"]["val"]
    assert [[cell["value"] for cell in row] for row in matrix["cells"]] == [
        pytest.approx(row) for row in values.tolist()
    ]
    assert [row["mean"] for row in matrix["of_folds"]] == pytest.approx(values.mean(1).tolist())
    assert [column["sd"] for column in matrix["of_seeds"]] == pytest.approx(
        values.std(0, ddof=1).tolist()
    )
    assert all((grid / cell["page"]).parent.is_dir() for row in matrix["cells"] for cell in row)
    tests = [auc(seen(TEST, 10 * fold + seed)) for fold in range(3) for seed in (1, 2)]
    assert report["matrix"]["test"]["of_all"]["mean"] == pytest.approx(np.mean(tests))
    assert (
        report["scores"]["test"]["lesion"]["auc"]["value"] == pytest.approx(np.mean(tests))
        and report["missing_fits"] == []
    )


def test_folds_of_one_run_and_of_a_multirun_leave_the_same_numbers(tmp_path):
    merge_sweep_runs(sweep(tmp_path / "sweep", folds=3, seeds=[1]))
    for fold in range(3):
        shutil.copytree(tmp_path / f"sweep/{fold}", tmp_path / f"run/fold{fold}")
    merge_run_folds(tmp_path / "run", 3, "drawn")
    one, other = report_of(tmp_path / "sweep"), report_of(tmp_path / "run")
    same = (
        "title",
        "scores",
        "caveat",
        "identity",
        "folds_mean",
        "folds_sd",
        "confusion",
        "missing_fits",
    )
    assert {name: one[name] for name in same} == {name: other[name] for name in same}
    assert [(row["val"], row["test"]) for row in one["folds"]] == [
        (row["val"], row["test"]) for row in other["folds"]
    ]


def test_seeds_alone_are_evaluated_on_test(tmp_path, capsys):
    (tmp_path / "multirun.yaml").write_text("")
    for seed in (1, 2):
        fit(
            tmp_path / str(seed),
            seen(POOL[:40], seed),
            seen(TEST, seed),
            [f"seed={seed}", "experiment=drawn"],
            seed=seed,
        )
    merge_sweep_runs(tmp_path)
    report = report_of(tmp_path)
    each = [auc(seen(TEST, seed)) for seed in (1, 2)]
    assert report["evaluated_split"] == "test" and report["scores"]["test"]["lesion"]["auc"][
        "value"
    ] == pytest.approx(np.mean(each))
    assert [row["scores"]["auc"] for row in report["seeds"]] == pytest.approx(each) and report[
        "matrix"
    ] == {}
    assert "networks together" not in capsys.readouterr().out


def test_seeds_that_split_anew_are_not_merged_and_that_is_said(tmp_path, capsys):
    (tmp_path / "multirun.yaml").write_text("")
    for seed in (1, 2):
        fit(
            tmp_path / str(seed),
            seen(POOL[:40], seed),
            seen(TEST + seed - 2, seed),
            [f"seed={seed}"],
            seed=seed,
        )
    merge_sweep_runs(tmp_path)
    said = capsys.readouterr().err.strip()
    assert (
        "seed 1 and seed 2 were evaluated on different images" in said
        and "datamodule.seed=0" in said
        and "\n" not in said
    )
    assert not (tmp_path / "report.json").exists()


def test_a_fold_that_failed_is_named_and_nothing_is_merged_as_if_it_were_whole(tmp_path, capsys):
    merge_sweep_runs(sweep(tmp_path, folds=3, seeds=[1, 2], failed=(3,)))  # fold 1 of seed 2
    report, page = report_of(tmp_path), (tmp_path / "report.html").read_text()
    said = capsys.readouterr()
    others = POOL[cut(3) != 1]
    assert (
        "fold 1 of seed 2 is missing: ValueError: <b>a bad value</b>" in said.err
        and "together" not in said.out
    )
    assert "Some fits are missing: fold 1 of seed 2 is missing" in page and "<b>a bad" not in page
    found = report["scores"]["out_of_fold"]["lesion"]["auc"]
    assert found["n"] == len(others) and found["value"] == pytest.approx(
        np.mean([auc(seen(others, seed)) for seed in (1, 2)])
    )
    assert report["matrix"]["val"]["cells"][1][1]["value"] is None
    assert "2 of 3 folds" in (tmp_path / "merged/seed2/report.html").read_text()
    assert (
        "only 2 of 3 folds are included"
        in report_of(tmp_path / "merged/seed2")["caveat"]["out_of_fold"]
    )


def test_arms_are_ranked_out_of_fold_and_compared_in_pairs(tmp_path):
    merge_sweep_runs(sweep(tmp_path, folds=2, seeds=[1], variants=("m.lr=1e-4", "m.lr=1e-3")))
    report = report_of(tmp_path)
    assert [row["variant"] for row in report["variants"]] == ["lr=1e-4", "lr=1e-3"] and report[
        "ranked_by"
    ] == "auc"  # the first has the skill
    variants = [[seen(POOL, 1, skill)] for skill in (1.0, 0.4)]
    assert [row["ranked"] for row in report["variants"]] == pytest.approx(
        [auc(variant[0]) for variant in variants]
    )
    gap, wanted = report["variants"][1]["differences"]["auc"], paired_differences(*variants)["auc"]
    assert (gap["value"], gap["low"], gap["high"]) == pytest.approx(
        (wanted.value, wanted.low, wanted.high)
    )
    assert all((tmp_path / row["page"]).is_file() for row in report["variants"])
    again = load_fold_runs(tmp_path / "merged/variant1")
    assert [(f.fold, f.seed, f.missing_reason) for f in again] == [
        (fold, 1, None) for fold in range(2)
    ]


def test_what_seeds_say_pooled_holds_every_image_once_a_seed(tmp_path):
    seeds = group_by_seed(load_fold_runs(sweep(tmp_path, folds=2, seeds=[1, 2])))[""]
    parts = [merge_out_of_fold(list(seed.fold_runs.values())) for seed in seeds]
    both = stack_seeds(parts)
    assert (
        len(both) == 2 * len(POOL)
        and len(set(both.ids)) == len(both)
        and set(both.groups) == set(parts[0].groups)
    )
    assert np.array_equal(both.logits, np.concatenate([part.logits for part in parts]))
