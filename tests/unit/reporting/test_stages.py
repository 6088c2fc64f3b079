"""Tests of curriculum stages on the run and comparison pages: images sampled and best scores."""

import json

import numpy as np
import pandas as pd
import pytest

from evaluation import evidence
from reporting.comparison import best_per_stage, compare_runs
from reporting.comparison_page import (
    EPOCH,
    IMAGES_SEEN,
    count_images_seen,
    line_style,
    load_curve,
    mean_curve,
    plot_curves,
    variants_without_image_count,
)
from reporting.figures.training import read_stages
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.run_folder import RunFolder, group_by_config
from reporting.tables import format_fraction, format_lr, format_overrides, format_stage
from tests.unit.evaluation.metrics.test_segmentation import evidence_of, scene

ASKED = [
    {"epochs": 2, "lr": 3e-4, "positive_fraction": 0.7},
    {"epochs": 2, "lr": 1e-4, "positive_fraction": {"from": 0.5, "to": 0.22}, "patience": 3},
]
DICE, IMAGES, POSITIVE = [0.3, 0.5, 0.6, 0.55], [100, 100, 300, 100], [0.71, 0.69, 0.5, 0.3]


def trained(folder, shift=0.0, curriculum=True, drawn=True, seed=0, net="a"):
    """A finished run: four epochs, and a line of the validation after the fit."""
    folder.mkdir(parents=True)
    rows = [{"epoch": e, "val/dice": d + shift, "val/loss": 1 - d} for e, d in enumerate(DICE)]
    rows += [{"epoch": e, "train/loss": 0.9 - e / 10} for e in range(4)]
    if drawn:
        rows[4:] = [
            row | {"sampling/images": n, "sampling/positive_fraction": p, "sampling/<b>old$": 1 - p}
            for row, n, p in zip(rows[4:], IMAGES, POSITIVE, strict=True)
        ]
    pd.DataFrame([*rows, {"epoch": 4, "val/dice": 0.99}]).to_csv(
        folder / "metrics.csv", index=False
    )
    if curriculum:
        best = [{"epoch": 1, "score": 0.5 + shift}, {"epoch": 2, "score": 0.6 + shift}]
        scores = [[{"epoch": e, "score": DICE[e]} for e in span] for span in ((0, 1), (2, 3))]
        told = [
            {
                "stage": i,
                "first_epoch": 2 * i,
                "asked": ASKED[i],
                "scores": scores[i],
                "best": best[i],
            }
            for i in range(2)
        ]
        (folder / "stages.json").write_text(json.dumps(told))
    config = {
        "seed": seed,
        "init_from": None,
        "monitor": {"name": "val/dice", "mode": "max"},
        "net": net,
        "paths": {"run": str(folder)},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    seen = evidence_of(*scene())
    evidence.write_evidence(seen, folder / "evidence/test.npz")
    copies = {"pairs": 0, "test_images": [], "examples": []}
    data = {
        "root": "",
        "phantom": True,
        "group_is": "image",
        "splits": {},
        "cleaning": {},
        "leaks": [],
        "near_duplicates": copies,
    }
    beside = {
        "resources": {
            "images_trained": 800,
            "images_per_second": 1.0,
            "peak_memory_gb": 1.0,
            "train_seconds": 1.0,
        }
    }
    rule = [{"top": 0.5, "min_area": 0.0, "bottom": 0.5}]
    found = build_report(
        ReportInput("t", folder, {"val": seen, "test": seen}, rule, beside),
        data | {"folder_leaks": {}, "split": "folders"},
    )
    RunFolder(folder).write_report(found)
    write_page(found, {"test": seen}, [], folder)
    run = RunFolder(folder)
    run.write_evidence("test", seen)
    return run


def test_the_report_tells_of_each_stage_what_was_drawn_and_its_best(tmp_path):
    run = trained(tmp_path / "r")
    first, second = run.report["stages"]
    assert (
        first["first_epoch"],
        first["last_epoch"],
        second["first_epoch"],
        second["last_epoch"],
    ) == (0, 1, 2, 3)
    assert first["sampled"]["images"] == 200 and first["sampled"][
        "positive_fraction"
    ] == pytest.approx(0.7)
    assert second["sampled"]["positive_fraction"] == pytest.approx(
        (300 * 0.5 + 100 * 0.3) / 400
    )  # of the images, not of the epochs
    assert second["best"] == {"epoch": 2, "score": 0.6}
    page = (tmp_path / "r/report.html").read_text()
    for words in (
        "best val/dice",
        "3–4",
        ">3e-4<",
        ">0.4500<",
        ">0.6000<",
        "patience 3",
        "stage 1 · lr 1e-4 · pos .5→.22",
        "Sampled images",
    ):
        assert words in page, words
    assert "<b>old$" not in page and "&lt;b&gt;old$" in page and "best epoch of its stage" in page


def test_pages_stand_without_stages_and_without_a_record_of_drawing(tmp_path):
    run = trained(tmp_path / "r", curriculum=False, drawn=False)
    page = (tmp_path / "r/report.html").read_text()
    assert (
        "stages" not in run.report
        and "Learning curves" in page
        and not any(w in page for w in ("Sampled images", "<h2>Stages", "best epoch of its"))
    )
    assert (
        page.startswith("<!doctype html>")
        and page.count("<style>") == 1
        and "prefers-color-scheme" in page
        and "{%" not in page
    )
    assert RunFolder(tmp_path).epochs().empty and read_stages(RunFolder(tmp_path)) == []
    trained(tmp_path / "blind", drawn=False)
    assert [stage["sampled"] for stage in read_stages(RunFolder(tmp_path / "blind"))] == [{}, {}]


def test_an_epoch_is_one_row_and_the_validation_after_the_fit_is_none(tmp_path):
    table = trained(tmp_path / "r").epochs()
    assert (
        list(table.index) == [0, 1, 2, 3]
        and list(table["val/dice"]) == DICE
        and table["train/loss"].notna().all()
    )


def test_images_seen_are_those_drawn_else_an_equal_share_else_unknown(tmp_path):
    known, shared = (
        load_curve(trained(tmp_path / "a")),
        load_curve(trained(tmp_path / "b", drawn=False)),
    )
    assert list(known.table[IMAGES_SEEN]) == [100, 200, 500, 600] and list(
        shared.table[IMAGES_SEEN]
    ) == [
        200,
        400,
        600,
        800,
    ]
    assert (
        known.stage_starts(EPOCH) == [2.5]
        and known.stage_starts(IMAGES_SEEN) == [200]
        and list(known.metric_points("val/dice", EPOCH)["x"]) == [1, 2, 3, 4]
    )
    assert count_images_seen(known.table.loc[2:], {}).isna().all()  # continued from another run
    assert count_images_seen(known.table.drop(columns="sampling/images"), {}).isna().all()
    nothing = load_curve(RunFolder(tmp_path))
    assert (
        nothing.metric_points("val/dice", IMAGES_SEEN).empty
        and variants_without_image_count({"n": [nothing], "k": [known]}) == []
    )


def test_the_mean_of_seeds_goes_as_far_as_all_of_them():
    long, short = (pd.DataFrame({"x": np.arange(n) * 1.0, "y": np.arange(n) + n}) for n in (4, 2))
    assert mean_curve([long, short])["y"].tolist() == [3.0, 4.0]


@pytest.mark.slow
def test_a_comparison_has_the_best_of_each_stage_over_seeds(tmp_path):
    for seed, shift in enumerate((0.0, 0.1)):
        trained(tmp_path / f"a{seed}", shift, seed=seed)
    trained(tmp_path / "b", 0.07, net="b")
    trained(tmp_path / "c", curriculum=False, drawn=False, net="c")
    (tmp_path / "c/metrics.csv").unlink()
    found = compare_runs([str(tmp_path)], tmp_path / "both")
    by_title = {variant["title"]: variant["stages"] for variant in found["variants"]}
    first, second = by_title["t (net=a)"]
    assert (first["best"], second["best"]) == pytest.approx((0.55, 0.65)) and first[
        "sd"
    ] == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert (second["best_epoch"], second["epochs"], second["images"], second["runs"]) == (
        3,
        2,
        400,
        2,
    )
    assert (
        by_title["t (net=c)"] == []
        and found["leaders"] == pytest.approx([0.57, 0.67])
        and found["stage_score"] == "val/dice"
    )
    page = (tmp_path / "both/comparison.html").read_text()
    for words in (
        "val/dice against epochs",
        "val/dice against images seen",
        "train/loss against epochs",
        "0.5500",
        "± 0.0707",
        "stage 1",
    ):
        assert words in page, words
    assert (
        '<span class="value">0.5700</span>' in page
        and '<span class="value">0.5500</span>' not in page
    )
    assert (
        page.count("<line ") == 2 and page.count("<style>") == 1
    )  # the key: the variant without metrics.csv has no curve


def test_the_lower_score_leads_where_the_monitor_falls(tmp_path):
    run = trained(tmp_path / "r")
    run.report["config"]["monitor"] = {"name": "val/loss", "mode": "min"}
    assert best_per_stage([[{"best": 0.4}], [{"best": 0.3}, {"best": None}]], [run, run]) == [
        0.3,
        None,
    ]
    other = trained(tmp_path / "o")
    assert (
        best_per_stage([[{"best": 0.4}], [{"best": 0.3}]], [run, other]) == [None]
        and best_per_stage([[]], [run]) == []
    )


def test_curricula_name_an_arm_briefly(tmp_path):
    def run(name, stages, rank=1):
        config = {"rank": rank, "callbacks": {"curriculum": {"stages": stages}} if stages else {}}
        found = RunFolder(tmp_path / name)
        found.path.mkdir(exist_ok=True)
        found.write_report({"title": "t", "config": config})
        return found

    slow = [ASKED[0], ASKED[1] | {"lr": 1e-5}]
    assert set(group_by_config([run("a", ASKED), run("b", slow)])) == {
        "t (stages[1].lr=0.0001)",
        "t (stages[1].lr=1e-05)",
    }
    several = [
        run("a", ASKED),
        run("b", None),
        run("c", [{"epochs": 4, "lr": 1.0}]),
        run("d", ASKED),
    ]
    assert {name: len(runs) for name, runs in group_by_config(several).items()} == {
        "t (stages=A)": 2,
        "t": 1,
        "t (stages=B)": 1,
    }


def test_words_and_looks(tmp_path):
    assert [format_lr(x) for x in (3e-4, 1e-5, 0.1, 1.25e-3)] == ["3e-4", "1e-5", "1e-1", "1.25e-3"]
    assert [format_fraction(x) for x in (0.5, 0.22, 1.0, 0.0, {"from": 0.8, "to": 0.22})] == [
        ".5",
        ".22",
        "1",
        "0",
        ".8→.22",
    ]
    assert format_stage({"stage": 1, "asked": {"epochs": 3}}) == "stage 1"
    assert (
        format_overrides({"lr": 1, "freeze_encoder": True, "loss_weights": {"bce": 3.0}})
        == "freeze encoder yes, loss weights bce=3.0"
    )
    assert (
        len({line_style(n) for n in range(12)}) == 12
        and len({line_style(n)[0] for n in range(6)})
        == len({line_style(n)[1] for n in range(6)})
        == 6
    )
    svg = plot_curves({"a": [load_curve(trained(tmp_path / "r"))]}, "val/dice")[
        "val/dice against epochs"
    ]
    assert line_style(0)[0] in svg and "currentColor" in svg
