"""Tests of fits that cannot be merged: the others are merged and one sentence gives the reason."""

import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from datamodules.errors import UserError
from evaluation import evidence
from reporting.commands import ensemble_test_command, quote_override
from reporting.cross_validation import merge_run_folds, merge_sweep_runs
from reporting.fold_ensemble import FoldEnsemble
from reporting.fold_runs import load_fold_runs
from reporting.out_of_fold import group_by_seed
from tests.factories.fold_runs import NAMES, POOL, TEST, fit, report_of, seen, sweep


def test_damaged_and_cut_off_fits_are_named(tmp_path, capsys):
    sweep(tmp_path, folds=5, seeds=[1])
    (tmp_path / "0/evidence/val.npz").write_bytes(b"PK")
    (tmp_path / "1/outcome.json").unlink()
    (tmp_path / "2/report.json").write_text("{")
    shutil.copy(tmp_path / "4/config.yaml", tmp_path / "4/.hydra/config.yaml")
    (tmp_path / "4/config.yaml").write_text("fold: [4")
    merge_sweep_runs(tmp_path)
    said = capsys.readouterr().err
    assert (
        f"fold 0 of seed 1 is missing: {tmp_path / '0/evidence/val.npz'} cannot be read as evidence"
        in said
    )
    assert (
        "fold 1 of seed 1 is missing: it did not reach its end" in said
        and f"{tmp_path / '2/report.json'} is not a report that can be read" in said
    )
    assert f"fold 4 of seed 1 is missing: {tmp_path / '4/config.yaml'} cannot be read" in said
    assert "1 of 5 folds" in report_of(tmp_path)["title"]


def test_a_run_of_folds_whose_evidence_is_damaged_names_the_file(tmp_path):
    sweep(tmp_path / "sweep", folds=2, seeds=[1])
    for fold in range(2):
        shutil.move(tmp_path / f"sweep/{fold}", tmp_path / f"fold{fold}")
    (tmp_path / "fold1/evidence/val.npz").unlink()
    with pytest.raises(UserError, match=r"fold1/evidence/val\.npz cannot be read as evidence"):
        merge_run_folds(tmp_path, 2, "drawn")


def test_folds_of_different_splits_are_not_merged(tmp_path, capsys):
    sweep(tmp_path, folds=2, seeds=[1])
    shutil.rmtree(tmp_path / "1")
    fit(
        tmp_path / "1",
        seen(POOL[10:], 1),
        seen(TEST, 1),
        ["fold=1", "seed=1", "folds=2", "experiment=drawn", "+hydra=x"],
        fold=1,
        folds=2,
        seed=1,
    )
    merge_sweep_runs(tmp_path)
    assert (
        "so these folds are of different splits" in capsys.readouterr().err
        and not (tmp_path / "report.json").exists()
    )


def test_a_run_of_folds_that_failed_before_its_first_says_why(tmp_path):
    (tmp_path / "multirun.yaml").write_text("")
    for seed in (1, 2):
        failure = "the root is empty" if seed == 2 else None
        fit(
            tmp_path / str(seed),
            seen(POOL, seed),
            seen(TEST, seed),
            [f"seed={seed}"],
            failure,
            folds=2,
            seed=seed,
        )
    for fold in range(2):
        fit(
            tmp_path / f"1/fold{fold}",
            seen(POOL[fold::2], 1),
            seen(TEST, 1),
            [],
            folds=2,
            fold=fold,
            seed=1,
        )
    assert group_by_seed(load_fold_runs(tmp_path))[""][1].missing_reasons == {
        0: "the root is empty",
        1: "the root is empty",
    }


def test_one_arm_that_cannot_be_merged_does_not_keep_the_others_from_it(tmp_path, capsys):
    sweep(tmp_path, folds=2, seeds=[1], variants=("m.lr=1", "m.lr=2", "m.lr=3"))
    shutil.copytree(tmp_path / "0/evidence", tmp_path / "1/evidence", dirs_exist_ok=True)
    merge_sweep_runs(tmp_path)
    said = capsys.readouterr().err
    assert (
        "the trials of lr=1 are not merged" in said
        and "so these folds are of different splits" in said
    )
    pages = [(row["variant"], row["page"]) for row in report_of(tmp_path)["variants"]]
    assert pages == [
        ("lr=2", "merged/variant1/report.html"),
        ("lr=3", "merged/variant2/report.html"),
    ]


def test_seeds_of_different_splits_keep_a_page_each(tmp_path, capsys):
    sweep(tmp_path, folds=2, seeds=[1, 2])
    for number in (1, 3):  # those of seed 2 lose an image each
        path = tmp_path / f"{number}/evidence/val.npz"
        val = evidence.read_evidence(path)
        evidence.write_evidence(val.subset(np.arange(len(val)) > 0), path)
    merge_sweep_runs(tmp_path)
    said = capsys.readouterr().err
    assert (
        "seed 1 and seed 2 were evaluated on different images" in said
        and "\n" not in said.strip()
        and not (tmp_path / "report.json").exists()
    )
    assert all(str(tmp_path / f"merged/seed{seed}/report.html") in said for seed in (1, 2))
    assert report_of(tmp_path / "merged/seed1")["scores"]["out_of_fold"]["lesion"]["auc"][
        "n"
    ] == len(POOL)


def test_arms_of_different_tasks_keep_their_own_pages_and_are_not_compared(tmp_path, capsys):
    sweep(tmp_path, folds=2, seeds=[1], variants=("m.lr=1", "m.lr=2"))
    for number, name in enumerate("aabb"):
        report = report_of(tmp_path / str(number))
        report["config"]["title"] = name
        (tmp_path / f"{number}/report.json").write_text(json.dumps(report))
        for path in (tmp_path / f"{number}/evidence").glob("*.npz"):
            evidence.write_evidence(
                replace(evidence.read_evidence(path), classes=(f"lesion {name}",)), path
            )
    merge_sweep_runs(tmp_path)
    assert "lr=1 and lr=2 have different tasks" in capsys.readouterr().err
    assert [report_of(tmp_path / f"merged/variant{variant}")["title"][0] for variant in (0, 1)] == [
        "a",
        "b",
    ] and not (tmp_path / "report.json").exists()


def test_arms_with_folds_and_without_are_not_taken_for_one_another(tmp_path, capsys):
    sweep(tmp_path, folds=2, seeds=[1], variants=("m.lr=1",))
    fit(
        tmp_path / "2",
        seen(POOL[:40], 1),
        seen(TEST, 1),
        ["fold=null", "seed=1", "m.lr=2", "folds=0"],
        seed=1,
    )
    merge_sweep_runs(tmp_path)
    assert "has no folds" in capsys.readouterr().err
    merged = sorted(
        str(path.parent.parent.relative_to(tmp_path)) for path in tmp_path.rglob("out_of_fold.npz")
    )
    assert merged == ["merged/variant0"]


def test_a_root_is_the_same_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ensemble = FoldEnsemble(
        tmp_path, "ckpt_path", load_fold_runs(sweep(tmp_path / "s", folds=2, seeds=[1]))
    )  # whose root is `data`
    with pytest.raises(UserError, match="were trained on"):
        ensemble.check_not_trained_on(NAMES[:3].tolist(), tmp_path / "x" / ".." / "data")


@pytest.mark.parametrize(
    "name",
    [
        "plain/2024-01-02_10-11-12",
        "a=b,c",
        "with 'one' and \"two\"",
        "[x]{y} z",
        "back\\slash\\",
        "tilde~é:(1)",
    ],
)
def test_a_printed_path_is_read_back_by_shell_and_hydra(name, tmp_path):
    folder = sweep(tmp_path / name, folds=2, seeds=[1])
    words = shlex.split(ensemble_test_command(folder))
    assert words[-1] == quote_override(
        "ckpt_path", folder
    ) and OverridesParser.create().parse_override(words[-1]).value() == str(folder)
