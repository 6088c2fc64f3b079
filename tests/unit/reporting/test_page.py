"""Tests of the page's slider in a browser against the score functions and scikit-learn."""

import pytest
import torch
from sklearn.metrics import confusion_matrix

from evaluation.bootstrap import CLASS_MEAN, bootstrap_metrics
from evaluation.logit_bins import HALF_BIN, bin_probability, quantize_logits
from tests.factories.pages import slide
from tests.unit.reporting.test_page_data import moved

BYTES = (0, 117, 128, 141, 255)
VALUES = (
    "[...document.querySelectorAll('[data-part=value]')].map((e) => [e.dataset.c, e.dataset.s,"
    " e.textContent])"
)
INTERVALS = (
    "[...document.querySelectorAll('[data-part=interval]')].filter((e) => %s).map((e) =>"
    " e.textContent)"
)


def printed(value):
    return "–" if value != value else f"{value:.4f}"


@pytest.mark.parametrize("name", ["mask", "masks", "folds", "label", "labels"])
def test_a_moved_slider_shows_every_score_as_its_own_function_has_it_and_no_interval(
    name, made, opened
):
    page = made(name)
    tab, seen = opened(page.path), page.seen
    ruled, channel = tab.evaluate(VALUES), len(seen.classes) - 1
    if channel:
        tab.locator("#channel").select_option(str(channel))
    for byte in BYTES:
        slide(tab, byte)
        wanted = bootstrap_metrics(moved(seen, channel, byte), resamples=1)
        for c, score, text in tab.evaluate(VALUES):
            own = CLASS_MEAN if c == "mean" else seen.classes[int(c)]
            if c in ("mean", str(channel)) or score == "exact_match":
                assert text == printed(wanted[own][score].value), (own, score, byte)
        free = [score.name for score in seen.metrics if score.threshold_free]
        moving = f"['mean', '{channel}'].includes(e.dataset.c) && !{free}.includes(e.dataset.s)"
        assert set(tab.evaluate(INTERVALS % moving)) == {"–"}
        others = [
            row for row in ruled if row[0] not in ("mean", str(channel)) and row[1] != "exact_match"
        ]
        assert [row for row in tab.evaluate(VALUES) if row in others] == others
    tab.keyboard.press("r")
    assert tab.evaluate(VALUES) == ruled and tab.locator("#back").is_disabled()
    assert tab.evaluate(INTERVALS % "e.textContent !== '–'")


@pytest.mark.parametrize("name", ["mask", "folds", "label"])
def test_confusion_is_scikit_learn_s(name, made, opened):
    page = made(name)
    tab, seen = opened(page.path), page.seen
    for byte in (117, 141):
        slide(tab, byte)
        if name == "label":
            says, true = seen.probability[:, 0] >= bin_probability(byte), page.truth[:, 0] > 0
        else:
            masks = quantize_logits(torch.tensor(page.logits)).numpy()[:, 0] >= byte
            enough = masks.mean((1, 2)) >= seen.rule[:, 0, 1]
            masks, truth = masks & enough[:, None, None], page.truth[:, 0] > 0
            says, true = masks.any((1, 2)), truth.any((1, 2))
            assert table(tab, "pixels") == confusion_matrix(truth.ravel(), masks.ravel()).tolist()
        assert table(tab, "images") == confusion_matrix(true, says).tolist()


def table(tab, of):
    cell = {
        kind: int(tab.locator(f"[data-of={of}][data-cell={kind}]").inner_text().replace(",", ""))
        for kind in ("tn", "fp", "fn", "tp")
    }
    return [[cell["tn"], cell["fp"]], [cell["fn"], cell["tp"]]]


def test_the_start_is_the_rule_and_says_what_it_is(made, opened):
    tab = opened(made("mask").path)
    assert (
        tab.locator("#position").inner_text()
        == "at the decision rule: at least 1 % of the image above 0.6225, mask from 0.3775"
    )
    assert tab.locator("#byte").input_value() == "124" and "two thresholds" in tab.inner_text(
        "body"
    )
    slide(tab, HALF_BIN)
    assert (
        tab.locator("#position").inner_text()
        == "threshold 0.5000 (byte 128 of 255), not the decision rule"
    )
    assert "decision rule of its own fold" in opened(made("folds").path).inner_text("#position")
    tab = opened(made("exclusive").path)
    assert not tab.locator("#byte").count() and "There is no threshold to change" in tab.inner_text(
        "body"
    )


def test_every_headline_score_opens_its_definition_without_a_mouse(made, opened):
    tab = opened(made("mask").path)
    term = tab.locator(".headline .term").first
    definition = tab.locator("#define-dice")
    assert term.inner_text() == "dice" and not definition.is_visible()
    term.focus()
    tab.keyboard.press("Enter")
    assert "mean over images of 2TP/(2TP+FP+FN)" in definition.inner_text()
    assert definition.is_visible()
    tab.keyboard.press("Escape")
    assert not definition.is_visible()
