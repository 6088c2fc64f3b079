"""Tests of folds from the command line.

One run and a multirun give the same numbers; an ensemble gives the mean of its members.
"""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score

import run
from datamodules.errors import UserError
from engine.recomposition import recompose
from evaluation import evidence
from evaluation.rule_search import fit_temperature
from reporting.commands import ensemble_test_command
from reporting.fold_ensemble import FoldEnsemble
from reporting.fold_runs import load_fold_runs
from tests.conftest import SMALL, refused
from tests.factories.finished_run import finish_run
from tests.factories.fold_runs import NAMES, POOL, TEST, sweep
from tests.integration.test_preclassify_run import LABELS

MORE = ["callbacks.report.cases=0", "callbacks.threshold_search.temperature=true"]
MORE += ["trainer.precision=32-true", "datamodule.batches_per_epoch=3", "module.optimizer.lr=3e-3"]
WORDS = [*(word for word in LABELS if not word.startswith("folds=")), *MORE]


@pytest.fixture(scope="module")
def folds(thorax, tmp_path_factory) -> Path:
    """Two folds as one run."""
    words = [*WORDS, "folds=2", f"datamodule.root={thorax}"]
    return finish_run(words, tmp_path_factory.mktemp("folds") / "run")


@pytest.fixture(scope="module")
def trials(folds, thorax) -> Path:
    """The same two as a multirun."""
    folder = folds.parent / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDICAL_CACHE", str(folds.parent / "cache"))
        words = [
            "-m",
            *WORDS,
            "folds=2",
            "fold=range(2)",
            f"datamodule.root={thorax}",
            f"hydra.sweep.dir={folder}",
            "hydra/launcher=basic",
        ]
        patch.setattr(sys, "argv", ["run.py", *words])
        run.main()
    return folder


@pytest.fixture(scope="module")
def together(folds, thorax) -> Path:
    """Both networks on test."""
    words = [*WORDS, "folds=2", f"datamodule.root={thorax}"]
    more = ["do=[test,predict]", f"ckpt_path={folds}"]
    return finish_run([*words, *more], folds.parent / "together")


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_a_run_of_folds_and_a_multirun_over_them_leave_the_same_numbers(folds, trials):
    one, other = report_of(folds), report_of(trials)
    assert (
        one["scores"] == other["scores"]
        and one["identity"] == other["identity"]
        and one["title"] == other["title"]
    )
    assert [(row["fold"], row["val"], row["test"]) for row in one["folds"]] == [
        (row["fold"], row["val"], row["test"]) for row in other["folds"]
    ]
    assert one["folds_mean"]["val"] == pytest.approx(
        np.mean(
            [json.loads((folds / f"fold{k}/outcome.json").read_text())["score"] for k in (0, 1)]
        )
    )
    pd.testing.assert_frame_equal(
        pd.read_csv(folds / "cls_prob.csv"), pd.read_csv(trials / "cls_prob.csv")
    )


def test_networks_together_say_the_mean_of_their_probabilities(folds, together):
    members = [evidence.read_evidence(folds / f"fold{fold}/evidence/test.npz") for fold in (0, 1)]
    found = evidence.read_evidence(together / "evidence/test.npz")
    alone = pd.DataFrame(
        {
            n: pd.Series(1 / (1 + np.exp(-seen.logits[:, 0].astype(float))), seen.ids)
            for n, seen in enumerate(members)
        }
    )
    both = pd.Series(1 / (1 + np.exp(-found.logits[:, 0].astype(float))), found.ids)
    assert len(both) == 18 and both[alone.index].to_numpy() == pytest.approx(
        alone.mean(axis=1).to_numpy(), abs=1e-5
    )
    assert np.ptp(alone.to_numpy(), axis=1).max() > 1e-3  # they do not say the same
    said = pd.read_csv(together / "predictions/predictions.csv", dtype={"id": str}).set_index("id")
    assert set(said["split"] if "split" in said else ["test"]) == {"test"} and set(
        said.index
    ) <= set(both.index)


def test_their_rule_is_of_images_that_no_judge_had_seen_and_the_page_says_so(folds, together):
    report, page = report_of(together), (together / "report.html").read_text()
    merged = evidence.read_evidence(folds / "evidence/out_of_fold.npz")
    rule = report["rule"]["pneumothorax"]
    warm = fit_temperature(merged.logits[:, 0], merged.labels[:, 0], False)
    probability = 1 / (1 + np.exp(-merged.logits[:, 0].astype(float) / warm))
    every = [f1_score(merged.labels[:, 0], probability >= t) for t in np.unique(probability)]
    assert rule["temperature"] == pytest.approx(warm)
    assert f1_score(merged.labels[:, 0], probability >= rule["threshold"]) == pytest.approx(
        max(every)
    )
    assert report["ensemble"] == [str(folds / f"fold{fold}") for fold in (0, 1)] and list(
        report["scores"]
    ) == ["test"]
    assert (
        "ensemble of 2 networks" in report["title"]
        and "ule from out-of-fold evidence of single networks" in page
        and "score on val" not in page
        and "optimized on val" not in page
    )
    assert not (together / "evidence/val.npz").exists()


BAD = {
    "a fit from folds": (["ckpt_path={folder}"], {}, "is a multirun", "name one of them"),
    "a fold that failed": (
        ["do=[test]", "ckpt_path={folder}"],
        {"failed": (1,)},
        "lacks fold 1 of seed 1 (ValueError: <b>a bad",
        "fold=1 seed=1",
    ),
    "weights of a fold that failed": (
        ["do=[test]", "init_from={folder}"],
        {"failed": (1,)},
        "init_from=",
        "fold=1 seed=1",
    ),
    "several variants": (
        ["do=[test]", "ckpt_path={folder}"],
        {"variants": ("module.optimizer.lr=1", "module.optimizer.lr=2")},
        "holds 2 variants (lr=1; lr=2)",
        "merged/variant0",
    ),
    "several checkpoints of each": (
        ["do=[test]", "ckpt_path={folder}", "average_checkpoints=2"],
        {},
        "average_checkpoints=2 takes several checkpoints",
        "average_checkpoints=1",
    ),
    "no rule": (
        ["do=[test]", "ckpt_path={folder}", "callbacks=[report]"],
        {},
        "several networks, which need one rule",
        "threshold_search",
    ),
    "a fold of none": (["fold=1"], {}, "fold=1 needs the number of folds", "folds=5"),
}


@pytest.mark.parametrize("name", BAD)
def test_folds_that_cannot_answer_together_are_refused(name, cli, export, steps, tmp_path):
    words, drawn, wrong, mend = BAD[name]
    folder = sweep(tmp_path / "sweep", folds=2, seeds=[1], **drawn)
    code, said = cli(
        *SMALL, f"datamodule.root={export}", *(word.format(folder=folder) for word in words)
    )
    refused(code, said, steps, wrong, mend)


def test_folds_of_other_sizes_or_with_damaged_evidence_are_refused(cli, export, steps, tmp_path):
    folder = sweep(tmp_path / "sweep", folds=2, seeds=[1])
    words = [*SMALL, f"datamodule.root={export}", "do=[test]", f"ckpt_path={folder}"]
    report = report_of(folder / "1")
    report["config"]["image_size"] = 96
    (folder / "1/report.json").write_text(json.dumps(report))
    refused(
        *cli(*words),
        steps,
        f"{folder / '0'} and {folder / '1'} differ in image_size",
        "name folds of one experiment",
    )
    (folder / "0/evidence/val.npz").write_bytes(b"PK")
    refused(
        *cli(*words),
        steps,
        f"{folder / '0/evidence/val.npz'} cannot be read as evidence",
        "fold=0 seed=1",
    )


def test_images_that_a_member_was_trained_on_are_no_test(tmp_path):
    fits = load_fold_runs(sweep(tmp_path, folds=2, seeds=[1]))
    ensemble = FoldEnsemble(tmp_path, "ckpt_path", fits)
    ensemble.check_not_trained_on(NAMES[TEST].tolist(), Path("data"))
    ensemble.check_not_trained_on(NAMES[POOL].tolist(), Path("other"))
    with pytest.raises(
        UserError, match=r"were trained on 3 of the test images, such as 'i000'.*datamodule\.seed"
    ):
        ensemble.check_not_trained_on(NAMES[:3].tolist() + NAMES[TEST].tolist(), Path("data"))


def test_the_command_that_is_printed_takes_the_words_of_the_folds(folds):
    program, script, *words = shlex.split(ensemble_test_command(folds))
    assert [program, script, *words] == ["python", "run.py", "do=[test]", f"ckpt_path={folds}"]
    first = yaml.safe_load((folds / "fold0" / ".hydra" / "overrides.yaml").read_text())
    taken = set(recompose(words)) - set(words)
    assert {"experiment=preclassify_pnx", "image_size=32"} <= taken <= {*first}
