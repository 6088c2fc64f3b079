"""The page of exclusive classes: argmax and no slider, confusion and calibration of all classes."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox
from engine.tracking.results import report_curves
from evaluation.bootstrap import bootstrap_metrics
from evaluation.rule_modules import ExclusiveSegmentationRule
from reporting.comparison import compare_runs
from reporting.figures.segmentation import segmentation_figures, segmentation_panels
from reporting.out_of_fold import merge_out_of_fold
from reporting.overlays import encode_logit_maps
from reporting.segmentation import image_columns, render_panes, tables
from tests.factories import pages
from tests.factories.exclusive_masks import evidence_of, scene
from tests.factories.run_folder import changed, left
from tests.unit.reporting.test_many_classes import Tables
from tests.unit.reporting.test_page_data import unpacked_planes


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> pages.Page:
    return pages.exclusive_masks(tmp_path_factory.mktemp("exclusive") / "run")


def test_the_page_says_argmax_and_has_no_slider_and_no_curve_over_thresholds(page):
    html = page.path.read_text()
    read = Tables(html)
    assert "the decision (argmax), for each pixel" in html
    for name in page.seen.classes:
        assert [name, "argmax, nothing searched"] in read.rows
    assert "There is no threshold, so that nothing was searched on val" in html
    for gone in ('id="byte"', "zoombyte", "Dice against threshold", "average_precision", ">map<"):
        assert gone not in html.partition('<script type="module">')[0], gone
    assert "Reliability of the predicted class" in html and "exclusive classes" in html


def test_the_confusion_is_of_pixels_with_rows_as_shares_and_counts_beside_them(page):
    counts = page.seen.confusion.sum(0)
    html = page.path.read_text()
    read = Tables(html)
    names = ["background", *page.seen.classes]
    assert tables({"test": page.seen})["confusion"] == {
        "test": [{"names": names, "pixels": counts.tolist()}]
    }
    for k, name in enumerate(names):
        shares = [f"{100 * n / counts[k].sum():.2f} %" for n in counts[k]]
        assert [name, *shares] in read.rows and [name, *(f"{n:,}" for n in counts[k])] in read.rows
    assert f'title="{counts[1, 0]:,} of {counts[1].sum():,} pixels"' in html


def test_the_page_works_in_a_browser_without_a_message(page, opened):
    tab = opened(page.path)
    assert tab.locator("input[type=range]").count() == 0
    assert tab.locator("#bar, #channel, #alone").count() == 0
    tab.locator("figure[data-case]:visible button.open").first.click()
    assert tab.locator("#zoom").evaluate("(e) => e.open")
    before = tab.locator("#stage canvas").evaluate("(e) => e.toDataURL()")
    for key in ("ArrowUp", "m"):  # change nothing
        tab.keyboard.press(key)
    assert tab.locator("#stage canvas").evaluate("(e) => e.toDataURL()") == before
    tab.keyboard.press("p")
    tab.wait_for_function(
        "(before) => document.querySelector('#stage canvas').toDataURL() !== before", arg=before
    )
    tab.keyboard.press("Escape")
    heads = tab.locator("#images th").all_inner_texts()
    assert heads[-4:] == [
        "correct pixels, % of the image",
        *(f"Dice {name}" for name in page.seen.classes),
    ]


def test_the_live_overlay_draws_the_argmax_without_ignored_pixels(page):
    logits, truth, ignored = scene(12, images=4, size=(32, 32), ignored=0.3)
    batch = {"mask": truth, "ignored": ignored, "content": [ContentBox(0, 0, 32, 32)] * 4}
    rule = ExclusiveSegmentationRule(3)
    maps, _ = encode_logit_maps(batch, 2, logits[2:3], (0, 1, 2), 32, rule)
    kept = ignored[2, 0].numpy() == 0
    for c, packed in maps.items():
        bytes_, true = unpacked_planes(packed, 32, 32)
        assert np.array_equal(bytes_ >= 128, rule(logits[2:3], ignored[2:3])[0, c].numpy())
        assert np.array_equal(true > 0, (truth[2, c].numpy() > 0) & kept)


def test_the_panes_show_no_ignored_pixel():
    logits, truth, _ = scene(12, images=1, size=(32, 32))
    batch = {"image": torch.full((1, 1, 32, 32), 90, dtype=torch.uint8), "mask": truth}
    batch["content"] = [ContentBox(0, 0, 32, 32)]
    rule = ExclusiveSegmentationRule(3)
    shown = render_panes(batch, 0, logits, rule, side=32)
    whole = batch | {"ignored": torch.ones(1, 1, 32, 32, dtype=torch.uint8)}
    hidden = render_panes(whole, 0, logits, rule, side=32)
    assert not np.array_equal(shown["overlay"], shown["image"])
    assert np.array_equal(hidden["overlay"], hidden["image"])


def test_reliability_is_drawn_and_nothing_over_thresholds():
    seen = {"val": evidence_of(1)[0], "test": evidence_of(2)[0]}
    assert list(segmentation_figures(seen)) == [
        "Reliability of the predicted class",
        "Dice of single images at the decision rule",
    ]
    assert segmentation_panels(seen) == {} and "pooled_f1" not in tables(seen)
    assert report_curves(seen) == {}
    first = image_columns(seen["test"])[0]["values"]
    confusion = seen["test"].confusion
    assert first == pytest.approx([100 * np.trace(one) / one.sum() for one in confusion], abs=1e-3)


def test_runs_are_compared_on_the_same_images_and_not_with_overlapping_classes(tmp_path, capsys):
    one = evidence_of(6, images=30)[0]
    other = replace(one, counts=one.counts.copy())
    for name, seen, learning_rate in (("a", one, 0.1), ("b", other, 0.2)):
        left(tmp_path / name, seen, 0.5, ("val/dice", "max"), title=name, lr=learning_rate)
        changed(tmp_path / name, resources={})
    found = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    assert "pixel_accuracy" in found["headline_metrics"] and len(found["variants"]) == 2
    assert found["variants"][1]["differences"]["dice"]["value"] == 0
    assert (tmp_path / "out/comparison.html").is_file()
    left(tmp_path / "c", replace(one, exclusive=False), 0.5, ("val/dice", "max"))
    with pytest.raises(UserError, match=r"differ in module\.exclusive"):
        compare_runs([str(tmp_path / "a"), str(tmp_path / "c")], tmp_path / "out")


def test_folds_are_merged_image_by_image():
    whole = evidence_of(6, images=30)[0]

    def fold(rows, number):
        return type("Fold", (), {"evidence": {"val": whole.subset(rows)}, "folder": f"{number}"})

    merged = merge_out_of_fold([fold(np.arange(15), 0), fold(np.arange(15, 30), 1)])
    assert merged.exclusive and np.array_equal(merged.confusion, whole.confusion)
    assert json.dumps(
        {k: {s: asdict(e) for s, e in v.items()} for k, v in bootstrap_metrics(merged, 50).items()}
    ) == json.dumps(
        {k: {s: asdict(e) for s, e in v.items()} for k, v in bootstrap_metrics(whole, 50).items()}
    )
    other = replace(whole.subset(np.arange(15, 30)), exclusive=False)
    mixed = type("Fold", (), {"evidence": {"val": other}, "folder": "1"})
    with pytest.raises(UserError, match="other classes or another grid"):
        merge_out_of_fold([fold(np.arange(15), 0), mixed])
