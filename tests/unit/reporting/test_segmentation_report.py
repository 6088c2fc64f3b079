"""Tests of a segmentation's page: the F1 threshold, the cases shown and several classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn import metrics

from datamodules.loading.letterbox import ContentBox
from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import bin_probability, quantize_logits
from evaluation.logit_histogram import logit_histograms
from evaluation.metrics.segmentation import dice
from evaluation.rule_modules import SegmentationRule
from evaluation.threshold_sweep import at_operating_point, best_f1_bin, segmentation_tables
from reporting.cases import Case, round_robin
from reporting.figures.style import add_legend_below, line_style
from reporting.overlays import CLASS_COLORS, class_color
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.segmentation import class_tags, render_panes, select_cases, select_examples
from tests.unit.evaluation.metrics.test_segmentation import evidence_of, scene


def many(
    classes: int, seed: int, images: int = 12, shift: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, SegmentationEvidence]:
    """Logits, truth and evidence of several classes."""
    scenes = [scene(images, seed=100 * seed + c) for c in range(classes)]
    logits, truth = (torch.cat(parts, dim=1) for parts in zip(*scenes, strict=True))
    seen = evidence_of(logits[:, :1], truth[:, :1])
    counts = logit_histograms(logits + shift, truth, [ContentBox(0, 0, 32, 32)] * images).numpy()
    names = tuple(f"class {c}" for c in range(classes))
    return (
        logits + shift,
        truth,
        replace(
            seen,
            counts=counts,
            rule=np.tile((128.0, 0.0, 128.0), (images, classes, 1)),
            classes=names,
        ),
    )


def test_the_threshold_of_the_best_f1_is_chosen_on_val_and_evaluated_on_test_as_scikit_learn_does():
    scenes = {"val": many(2, seed=1), "test": many(2, seed=2, shift=0.7)}
    found = segmentation_tables({split: seen for split, (_, _, seen) in scenes.items()})[
        "pooled_f1"
    ]
    for c in range(2):
        flat = {
            s: (
                truth[:, c].numpy().ravel(),
                bin_probability(quantize_logits(logits[:, c]).numpy().ravel()),
            )
            for s, (logits, truth, _) in scenes.items()
        }
        precision, recall, thresholds = metrics.precision_recall_curve(*flat["val"])
        f1 = 2 * precision * recall / (precision + recall)
        mine = found[f"class {c}"]
        assert mine["threshold"] == pytest.approx(thresholds[f1[:-1].argmax()]) and mine["splits"][
            "val"
        ]["f1"] == pytest.approx(f1.max())
        for split, (true, probability) in flat.items():
            says = probability >= mine["threshold"]
            scores = [
                metrics.precision_score(true, says),
                metrics.recall_score(true, says),
                metrics.f1_score(true, says),
            ]
            wanted = dict(zip(("precision", "recall", "f1"), scores, strict=True))
            assert mine["splits"][split] == pytest.approx(
                wanted | {"average_precision": metrics.average_precision_score(true, probability)}
            )
    assert segmentation_tables({"test": scenes["test"][2]}) == {}


def test_equal_thresholds_give_the_middle_and_a_class_without_a_pixel_none():
    truth = torch.zeros(2, 2, 8, 8, dtype=torch.uint8)
    truth[0, 0, :2] = 1
    logits = torch.where(truth > 0, 3.0, -3.0)  # any byte from 105 to 152 is perfect
    counts = logit_histograms(logits, truth, [ContentBox(0, 0, 8, 8)] * 2).numpy()
    seen = replace(
        evidence_of(logits[:, :1], truth[:, :1]),
        counts=counts,
        rule=np.tile((128.0, 0.0, 128.0), (2, 2, 1)),
        classes=("a", "b"),
    )
    assert best_f1_bin(seen, 0) == 128 and best_f1_bin(seen, 1) is None
    empty = segmentation_tables({"val": seen})["pooled_f1"]["b"]
    assert (
        empty["threshold"] is None
        and empty["splits"]["val"]["f1"] is None
        and empty["splits"]["val"]["average_precision"] is None
    )


def test_the_ring_is_where_the_rule_decides_image_by_image():
    logits, truth = scene()
    rule = (134.0, 0.04, 120.0)
    module = SegmentationRule(1)
    module.values = torch.tensor([rule], dtype=torch.float64)
    says, true = module(logits).numpy().ravel(), truth.numpy().ravel()
    ring = at_operating_point(evidence_of(logits, truth, rule), 0)
    assert ring == pytest.approx(
        (
            metrics.precision_score(true, says),
            metrics.recall_score(true, says),
            metrics.f1_score(true, says),
        )
    )


def test_several_classes_are_scored_by_those_that_are_there_or_said():
    _, truth, seen = many(3, seed=3)
    decided = [seen.decision(c) for c in range(3)]
    for case in select_cases(seen, 12):
        i = seen.ids.tolist().index(case.id)
        there = [c for c in range(3) if decided[c].positive[i] or decided[c].predicted[i]]
        assert (
            case.caption
            == f"Dice {np.mean([dice(decided[c].pixels)[i] for c in there]) if there else 1:.4f}"
        )
        assert [chip.color for chip in case.chips] == [class_color(c) for c in there]
        words = {
            c: chip.title.removeprefix(f"class {c} ")
            for c, chip in zip(there, case.chips, strict=True)
        }
        assert all((word == "false alarm") == (not truth[i, c].any()) for c, word in words.items())
    assert (
        len(set(CLASS_COLORS)) == 16
        and [chip.title for chip in class_tags(seen.classes)] == list(seen.classes)
        and class_tags(("lesion",)) == ()
    )


def test_a_few_are_the_best_the_worst_and_the_largest_in_turn_or_those_asked_for():
    seen = evidence_of(*scene())
    cases = select_examples(seen, 5)
    assert [case.kind for case in cases[:3]] == ["best", "worst", "largest"] and len(
        {case.id for case in cases}
    ) == 5
    by_kind = {
        kind: next(case.id for case in select_cases(seen, 1) if case.kind == kind)
        for kind in ("best", "worst")
    }
    assert cases[0].id == by_kind["best"] and cases[1].id == by_kind["worst"]
    assert seen.truth[seen.ids == cases[2].id, 0, 1] == seen.truth[:, 0, 1].max()
    assert [case.id for case in select_examples(seen, 1, ["i007", "elsewhere", "i002"])] == [
        "i007",
        "i002",
    ]
    rows = {
        "a": [Case("a", "1", ""), Case("a", "2", "")],
        "b": [Case("b", "1", ""), Case("b", "3", "")],
    }
    assert [(case.kind, case.id) for case in round_robin(rows, 9)] == [
        ("a", "1"),
        ("a", "2"),
        ("b", "3"),
    ] and len(round_robin(rows, 1)) == 1


def test_truth_is_an_outline_and_prediction_a_fill_in_the_color_of_its_class():
    truth, logits = torch.zeros(1, 2, 32, 32, dtype=torch.uint8), torch.full((1, 2, 32, 32), -3.0)
    truth[0, 0, 4:14, 4:14], logits[0, 1, 16:28, 16:28] = 1, 3.0
    batch = {
        "image": torch.full((1, 1, 32, 32), 100, dtype=torch.uint8),
        "mask": truth,
        "content": [ContentBox(0, 0, 32, 32)],
    }
    found = render_panes(batch, 0, logits, SegmentationRule(2), side=128)
    first, second = (np.array(tuple(bytes.fromhex(class_color(c)[1:]))[::-1]) for c in (0, 1))
    assert (found["truth"][16, 20:50] == first).all() and (
        found["truth"][30:40, 30:40] == 100
    ).all()  # four pixels each: the edge, then within
    assert (
        np.abs(found["prediction"][80:90, 80:90] - (0.55 * 100 + 0.45 * second)).max() <= 1
        and (found["prediction"][30, 30] == 100).all()
    )
    assert (found["overlay"][16, 20:50] == first).all() and (
        found["overlay"][85, 85] == found["prediction"][85, 85]
    ).all()
    assert (found["image"] == 100).all() and found["image"].shape == (128, 128, 3)


def test_thirteen_classes_have_a_panel_each_and_many_names_stand_below_the_axes(tmp_path):
    _, _, seen = many(13, seed=4)
    copies = {"pairs": 0, "test_images": [], "examples": []}
    data = {
        "phantom": True,
        "group_is": "image",
        "splits": {},
        "cleaning": {},
        "leaks": [],
        "near_duplicates": copies,
    }
    found = build_report(
        ReportInput("t", tmp_path, {"val": seen, "test": seen}, [{"top": 0.5}] * 13, {}),
        data | {"folder_leaks": {}, "split": "folders"},
    )
    page = write_page(found, {"val": seen, "test": seen}, [], tmp_path).read_text()
    assert page.count("<svg") == 3 + 2 * 13 and all(
        page.count(f"<h4>class {c}</h4>") == 2 for c in range(13)
    )
    figure, axes = plt.subplots(figsize=(4.6, 3.3), layout="constrained")
    for k in range(13):
        axes.plot([0, 1], [k, k], label=f"test class {k}", **line_style(k))
    add_legend_below(figure)
    figure.canvas.draw()
    assert axes.get_legend() is None and not figure.legends[0].get_window_extent().overlaps(
        axes.get_window_extent()
    )
    assert (
        axes.get_window_extent().height > 200
        and len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 13
    )
    plt.close(figure)
