"""Tests of the leaderboard's groups, ranks, verdicts and differences between two runs."""

import numpy as np
import pytest

from evaluation.bootstrap import CLASS_MEAN, PairedDifference, bootstrap_metrics, paired_differences
from reporting.config_diff import config_diff, flatten_config
from reporting.leaderboard import build_leaderboard
from reporting.ranking import (
    BEST_ON_VAL,
    BETTER,
    NOT_DISTINGUISHABLE,
    TOO_FEW_GROUPS,
    WORSE,
    Ranking,
    choose_ranking,
    significance_label,
)
from reporting.run_index import RunIndex
from tests.factories.run_folder import changed, labels, left
from tests.unit.evaluation.metrics.test_segmentation import RULES, evidence_of, scene


def boarded(runs):
    return build_leaderboard(RunIndex(runs, runs / "kept.npz"))


def lines(runs):
    (group,) = boarded(runs)["groups"]
    return {line["run"]: line for line in group["lines"]}


def masks(shift):
    logits, truth = scene(images=30)
    return evidence_of(logits + shift, truth, RULES[1])


PAIRS = [
    ((labels(), labels(1.5)), "f1"),
    ((labels(classes=3), labels(1.0, classes=3)), "auc"),
    ((masks(0), masks(1)), "dice"),
]


@pytest.mark.parametrize("seen, score", PAIRS)
def test_a_difference_is_that_of_a_comparison_of_the_two_runs_alone(seen, score, tmp_path):
    for name, evidence, val in zip("ab", seen, (0.8, 0.7), strict=True):
        left(tmp_path / name, evidence, val, monitor=(f"val/{score}", "max"))
    found = lines(tmp_path)
    wanted = paired_differences([seen[0]], [seen[1]])[score]
    assert found["b"]["gap"] == vars(wanted)
    each = [list(bootstrap_metrics(evidence).values())[-1][score] for evidence in seen]
    assert len(seen[0].classes) == 1 or CLASS_MEAN in bootstrap_metrics(seen[0], 2)
    for line, own in zip((found["a"], found["b"]), each, strict=True):
        assert [line["test"][key] for key in ("value", "low", "high")] == pytest.approx(
            [own.value, own.low, own.high], abs=1e-12
        )
    assert found["a"]["verdict"] == BEST_ON_VAL and found["b"]["verdict"] == significance_label(
        wanted
    )


def test_ranked_by_val_and_never_by_test(tmp_path):
    left(tmp_path / "x/1", labels(40.0), 0.9)
    left(tmp_path / "x/2", labels(skill=2), 0.5)
    left(tmp_path / "y", labels(0.01), float("nan"))
    found = lines(tmp_path)
    assert [found[run]["rank"] for run in ("x/1", "x/2", "y")] == [1, 2, None]
    assert [found[run]["verdict"] for run in ("x/1", "x/2", "y")] == [
        BEST_ON_VAL,
        BETTER,
        "no val score",
    ]


def test_of_a_score_that_falls_the_least_is_the_best(tmp_path):
    left(tmp_path / "good", labels(), 0.1, monitor=("val/brier", "min"))
    left(tmp_path / "bad", labels(40.0), 0.3, monitor=("val/brier", "min"))
    found = lines(tmp_path)
    assert (
        found["good"]["rank"] == 1
        and found["bad"]["gap"]["low"] > 0
        and found["bad"]["verdict"] == WORSE
    )


def test_where_runs_monitored_different_scores_the_first_of_their_pages_ranks(tmp_path):
    for name, monitor in (("a", "val/auc"), ("b", "val/loss")):
        left(tmp_path / name, labels(), 0.5, monitor=(monitor, "max"))
    (group,) = boarded(tmp_path)["groups"]
    assert group["by"] == Ranking("f1", monitored=("val/auc", "val/loss"))
    assert all(
        line["test"]["value"] == pytest.approx(bootstrap_metrics(labels(), 2)["c0"]["f1"].value)
        for line in group["lines"]
    )
    assert choose_ranking([("val/loss", "min")] * 2, {"f1"}, "f1") == Ranking(
        "f1", monitored=("val/loss",)
    )
    assert choose_ranking([("val/f1", "min"), ("val/f1", "max")], {"f1"}, "f1").monitored == (
        "val/f1 (max)",
        "val/f1 (min)",
    )


def test_runs_on_other_images_truths_or_patients_are_never_ranked_together(tmp_path):
    left(tmp_path / "a", labels(), 0.5)
    left(tmp_path / "b", labels().exclude({"i000"}), 0.6)
    left(tmp_path / "c", labels(patients=30), 0.7)
    left(tmp_path / "d", masks(0), 0.8, monitor=("val/dice", "max"))
    groups = boarded(tmp_path)["groups"]
    assert (
        sorted(line["run"] for group in groups for line in group["lines"]) == list("abcd")
        and len(groups) == 4
    )
    assert all(line["verdict"] == BEST_ON_VAL for group in groups for line in group["lines"])


@pytest.mark.parametrize(
    "low, high, lower, word",
    [
        *[
            (0.1, 0.2, False, BETTER),
            (0.1, 0.2, True, WORSE),
            (-0.2, -0.1, False, WORSE),
            (-0.2, -0.1, True, BETTER),
        ],
        *[
            (-0.1, 0.1, False, NOT_DISTINGUISHABLE),
            (0.0, 0.2, False, NOT_DISTINGUISHABLE),
            (None, None, True, TOO_FEW_GROUPS),
        ],
    ],
)
def test_the_word_follows_from_the_interval(low, high, lower, word):
    assert significance_label(PairedDifference(0.1, low, high, 0.5), lower) == word


def test_of_few_patients_nothing_is_said(tmp_path):
    for name, noise in (("a", 0.0), ("b", 4.0)):
        left(tmp_path / name, labels(noise, patients=19), 0.5)
    found = lines(tmp_path)
    assert (
        found["b"]["verdict"] == TOO_FEW_GROUPS
        and found["b"]["gap"]["low"] is None
        and found["a"]["test"]["low"] is None
    )


def test_folds_are_parts_of_their_run_and_compete_with_no_whole_one(tmp_path):
    left(tmp_path / "one", labels(), 0.5)
    merged = left(
        tmp_path / "folds", labels().exclude({"i001"}), 0.7, evaluated_split="out_of_fold"
    )
    for fold in range(2):
        left(merged / f"fold{fold}", labels(), 0.9, fold=fold)
    changed(merged, folds=[{"fold": fold, "page": f"fold{fold}/report.html"} for fold in range(2)])
    left(tmp_path / "alone", labels(), 0.9, fold=1)
    found = boarded(tmp_path)
    by_run = {
        line["run"]: (group["out_of_fold"], line)
        for group in found["groups"]
        for line in group["lines"]
    }
    assert by_run.keys() == {"one", "folds"} and by_run["folds"][0] and not by_run["one"][0]
    assert (
        by_run["folds"][1]["parts"] == ["folds/fold0", "folds/fold1"]
        and by_run["folds"][1]["val"] == 0.7
    )
    assert [(part["run"], part["part_of"]) for part in found["parts"]] == [
        ("folds/fold0", "folds"),
        ("folds/fold1", "folds"),
    ]
    assert [(line["run"], line["status"]) for line in found["rest"]] == [("alone", "fold 1")]


def test_what_differs_is_said_in_few_words_among_runs_of_one_title(tmp_path):
    stages = [{"lr": 1, "size": 2, "epochs": 3}, {"lr": 2, "size": 3, "epochs": 4}]
    for number, rank in enumerate((4, 8, 8)):
        settings = {
            "module": {"net": {"rank": rank}, "file": f"{tmp_path}/{number}/x"},
            "callbacks": {"stages": stages[: 1 + (number > 0)]},
        }
        left(tmp_path / f"{number}", labels(), 0.5 - number / 10, seed=number, **settings)
    left(tmp_path / "other", labels(), 0.1, title="other", seed=9)
    found = lines(tmp_path)
    assert found["0"]["differs"] == ["seed=0", "rank=4", "stages=A"]
    assert [found[f"{n}"]["differs"] for n in (1, 2)] == [
        [f"seed={n}", "rank=8", "stages=B"] for n in (1, 2)
    ]
    assert found["other"]["differs"] == []


def test_keys_that_end_alike_are_told_apart_and_how_a_run_was_carried_out_is_no_difference():
    sweep = {
        "resume": "auto",
        "logger": {"csv": 1},
        "callbacks": {"pruning": {"monitor": "val/f1"}},
        "paths": {"run": "/r/1"},
    }
    first = {
        "module": {"lora": {"alpha": 16}, "loss": {"alpha": 0.123456}},
        "datamodule": {"root": "same"},
        "file": "/r/1/x",
    } | sweep
    second = {
        "module": {"lora": {"alpha": 32}, "loss": {"alpha": 0.25}},
        "datamodule": {"root": "same"},
        "file": "/r/2/x",
        "paths": {"run": "/r/2"},
    }
    found = config_diff([flatten_config(first), flatten_config(second)])
    assert [list(words.values()) for words in found] == [
        ["lora.alpha=16", "loss.alpha=0.1235"],
        ["lora.alpha=32", "loss.alpha=0.25"],
    ]
    near = [{"lr": 0.00012341}, {"lr": 0.00012342}, {"lr": 0.5}]
    assert [words["lr"] for words in config_diff(near)] == [
        "lr=0.00012341",
        "lr=0.00012342",
        "lr=0.5",
    ]


def test_a_key_that_follows_a_root_key_is_named_once():
    def run(size, own=None):
        return {"image_size": size, "datamodule.image_size": own or size, "net.image_size": size}

    assert config_diff([run(64), run(128)]) == [
        {"image_size": "image_size=64"},
        {"image_size": "image_size=128"},
    ]
    assert config_diff([run(64), run(64, own=96)])[1] == {"datamodule.image_size": "image_size=96"}


def test_variants_of_an_augmentation_have_short_labels():
    def variant(p=0.5, **transforms):
        flip = {"_target_": "datamodules.augmentation.HorizontalFlip", "p": p}
        elastic = {"_target_": "datamodules.augmentation.ElasticTransform", "alpha": 60, "p": 0.2}
        pipeline = {"transforms": {"flip": flip, "elastic": elastic} | transforms}
        return flatten_config({"datamodule": {"augmentation": pipeline}})

    def labels(*variants):
        return [", ".join(words.values()) for words in config_diff(variants)]

    noise = {"_target_": "datamodules.augmentation.GaussNoise", "std": 0.1, "p": 0.2}
    assert labels(variant(), variant(p=0.3)) == ["flip.p=0.5", "flip.p=0.3"]
    assert labels(variant(), variant(elastic=None)) == ["elastic=ElasticTransform", ""]
    assert labels(variant(), variant(noise=noise)) == ["", "noise=GaussNoise"]
    assert labels(variant(), variant(noise=noise), variant(noise=noise | {"std": 0.2})) == [
        "",
        "noise=GaussNoise, std=0.1",
        "noise=GaussNoise, std=0.2",
    ]


def test_merged_pages_of_seeds_and_arms_are_found_with_their_folds(tmp_path):
    for variant in range(2):
        whole = tmp_path / f"sweep/merged/variant{variant}"
        merged = left(
            whole / "merged/seed1",
            labels(variant * 2.0),
            0.9 - variant,
            evaluated_split="out_of_fold",
            title=f"variant {variant}",
            fold=0,
        )
        changed(merged, folds=[{"fold": 0, "page": f"../../../../{variant}/report.html"}])
        (merged / "config.yaml").unlink()
        left(tmp_path / f"sweep/{variant}", labels(), 0.5, fold=0)
        (whole / "report.json").write_text('{"title": "two seeds"}')
    (tmp_path / "sweep/report.json").write_text('{"title": "two variants"}')
    found = boarded(tmp_path)
    (group,) = found["groups"]
    runs = {line["run"]: line["parts"] for line in group["lines"]}
    assert (
        runs
        == {
            f"sweep/merged/variant{variant}/merged/seed1": [f"sweep/{variant}"]
            for variant in range(2)
        }
        and found["rest"] == []
    )
    assert [page["title"] for page in found["several"]] == [
        "two variants",
        "two seeds",
        "two seeds",
    ]


def test_draws_do_not_depend_on_how_the_images_are_ordered(tmp_path):
    shuffled = labels(1.5).subset(np.random.default_rng(0).permutation(120))
    left(tmp_path / "a", labels(), 0.9)
    left(tmp_path / "b", labels(1.5), 0.5)
    left(tmp_path / "c", shuffled, 0.4)
    found = lines(tmp_path)
    assert found["b"]["gap"] == pytest.approx(found["c"]["gap"])


def test_switched_parts_and_empty_values_are_named_as_in_the_configuration():
    freezing = {"_target_": "callbacks.EncoderFreezing", "epochs": None}
    export = {"_target_": "callbacks.LoRAMergedExport", "path": "x"}
    net = {"encoder": {"weights": "imagenet"}, "auxiliary": True}
    first = {"module": {"net": net}, "callbacks": {"lora_export": export}}
    second = {
        "module": {"net": {"encoder": {"weights": None}, "auxiliary": False}},
        "callbacks": {"freeze_encoder": freezing},
    }
    found = config_diff([flatten_config(first), flatten_config(second)])
    assert set(found[0].values()) == {"weights=imagenet", "auxiliary=true"}
    assert set(found[1].values()) == {"weights=null", "auxiliary=false", "freeze_encoder"}
