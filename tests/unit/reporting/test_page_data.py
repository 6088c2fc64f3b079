"""Tests of the page's embedded data: scores per threshold, lossless maps and case orders."""

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.loading.letterbox import ContentBox
from evaluation import threshold_sweep
from evaluation.bootstrap import CLASS_MEAN, bootstrap_metrics
from evaluation.logit_bins import bin_probability, quantize_logits
from evaluation.metrics.segmentation import dice
from evaluation.threshold_sweep import AT_RULE, sweep_means, sweep_thresholds
from reporting import encoding
from reporting.overlays import encode_logit_maps
from reporting.segmentation import rankings
from reporting.task_view import TASK_VIEWS
from tests.unit.evaluation.metrics.test_classification import drawn
from tests.unit.evaluation.metrics.test_classification import evidence_of as labels_of
from tests.unit.evaluation.metrics.test_segmentation import evidence_of, scene
from tests.unit.reporting.test_segmentation_report import many


def moved(seen, channel, byte):
    """Return evidence with one class at a plain threshold; min_area and temperature are kept."""
    rule = seen.rule.copy()
    if seen.kind == "mask":
        rule[:, channel, 0] = rule[:, channel, 2] = byte
    else:
        rule[:, channel, 0] = bin_probability(byte)
    return replace(seen, rule=rule)


def several(kind):
    if kind == "mask":
        seen = many(3, seed=5)[2]
        rule = seen.rule.copy()
        rule[::2], rule[1::2] = (134.0, 0.04, 120.0), (126.0, 0.0, 131.0)  # of two folds
        return replace(seen, rule=rule)
    return labels_of(*drawn(60, 3), (0.37, 1.4, 1.0))


@pytest.mark.parametrize("kind", ["mask", "label"])
def test_every_score_at_every_threshold_is_the_one_at_that_rule_and_the_mean_follows(kind):
    seen = several(kind)
    each = [sweep_thresholds(seen, c, TASK_VIEWS[kind].at_all_thresholds) for c in range(3)]
    mean = sweep_means(each, seen.metrics)
    for byte in (0, 60, 119, 128, 131, 140, 255, AT_RULE):
        ruled = bootstrap_metrics(seen if byte == AT_RULE else moved(seen, 1, byte), resamples=1)
        for name, found in ((seen.classes[1], each[1].values), (CLASS_MEAN, mean[1])):
            wanted = [ruled[name][score.name].value for score in seen.metrics]
            np.testing.assert_allclose(
                found[:, byte], wanted, rtol=1e-12, err_msg=f"{name} at {byte}"
            )
    fixed = [s for s, score in enumerate(seen.metrics) if score.threshold_free]
    for byte in (90, 128, 150):  # what was taken from the rule alone is so at any threshold
        decided, once = moved(seen, 1, byte).decision(1), np.ones((1, len(seen)))
        np.testing.assert_array_equal(
            each[1].values[fixed, byte], [seen.metrics[s].compute(decided, once)[0] for s in fixed]
        )


def test_an_image_is_silent_from_the_first_threshold_at_which_nothing_is_drawn():
    seen = several("mask")
    found = sweep_thresholds(seen, 1, TASK_VIEWS["mask"].at_all_thresholds, places=[3, 0])
    says = np.array([moved(seen, 1, byte).decision(1).predicted for byte in range(256)])
    assert (found.silent == np.where(says.all(0), 256, says.argmin(0))).all() and (
        found.predicted == seen.decision(1).predicted
    ).all()
    for byte in (100, 130, 150):
        np.testing.assert_allclose(
            found.dice[:, byte], dice(moved(seen, 1, byte).decision(1).pixels)[[3, 0]]
        )


def test_a_slider_starts_at_the_rule_and_says_where_the_rule_is_more_than_a_threshold():
    seen = evidence_of(*scene())
    assert threshold_sweep.segmentation_slider_start(seen, 0) == threshold_sweep.SliderStart(
        128, "threshold 0.5000", True
    )
    two = threshold_sweep.segmentation_slider_start(
        evidence_of(*scene(), rule=(134.0, 0.04, 120.0)), 0
    )
    assert (two.byte, two.plain, two.note) == (
        120,
        False,
        threshold_sweep.TWO_THRESHOLDS_NOTE,
    ) and "4 % of the image above 0.6792, mask from 0.2689" in two.words
    assert (
        threshold_sweep.segmentation_slider_start(several("mask"), 0).note
        == threshold_sweep.FOLD_RULES_NOTE
    )
    one = labels_of(*drawn(), (0.4, 2.0, 1.0))
    start = threshold_sweep.classification_slider_start(one, 0)
    gaps = np.abs(bin_probability(np.arange(256)) - 0.4)
    assert start.byte == gaps.argmin() and start.words == "threshold 0.4000" and not start.plain
    assert threshold_sweep.classification_slider_start(
        replace(one, rule=np.tile((0.5, 2.0, 1.0), (200, 1, 1))), 0
    ).plain


def unpacked_planes(packed, height, width):
    """Return the byte map and the truth that `encode_mask` packed."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    pixels = height * width
    bytes_ = np.cumsum(raw[:pixels].reshape(height, width), axis=1, dtype=np.uint8)
    return bytes_, np.unpackbits(raw[pixels:])[:pixels].reshape(height, width)


def test_maps_travel_without_loss_and_large_ones_shrink():
    logits, truth = scene(2, side=32)
    batch = {"mask": truth, "content": [ContentBox(4, 2, 24, 30)] * 2}
    found, size = encode_logit_maps(batch, 1, logits[1:], (0,))
    again, true = unpacked_planes(found[0], *size)
    assert size == (24, 30)
    assert (again == quantize_logits(logits[1, 0, 4:28, 2:32]).numpy()).all()
    assert (true == truth[1, 0, 4:28, 2:32].numpy()).all()
    large = {
        "mask": torch.ones(1, 1, 64, 32, dtype=torch.uint8),
        "content": [ContentBox(0, 0, 64, 32)],
    }
    assert encode_logit_maps(large, 0, torch.zeros(1, 1, 64, 32), (0,), side=16)[1] == (16, 8)


def test_numbers_keep_four_decimals_and_json_ends_no_script():
    values = np.array([0.0, 0.12345, np.nan, 1.0])
    words = np.frombuffer(base64.b64decode(encoding.encode_scores(values)), "<u2")
    assert [f"{word / 10_000:.4f}" for word in words[[0, 1, 3]].tolist()] == [
        f"{value:.4f}" for value in values[[0, 1, 3]]
    ]
    assert words[2] == encoding.UNDEFINED
    assert (
        encoding.encode_scores(np.full(3, 7.5)) == 7.5
        and encoding.encode_scores(np.full(3, np.nan)) is None
    )
    with pytest.raises(ValueError, match="more bytes"):
        encoding.encode_scores(np.array([0.0, 7.0]))
    said = {"id": "</script><!-- ]]>"}
    assert "<" not in encoding.as_json(said) and json.loads(encoding.as_json(said)) == said


def test_orders_rank_images_with_a_lesion_first():
    seen = evidence_of(*scene())
    found, lesion = rankings(seen), seen.decision(0).positive
    area, values, some = (
        seen.truth[:, 0, 1],
        dice(seen.decision(0).pixels),
        int(seen.decision(0).positive.sum()),
    )
    assert set(found) == {"random", "worst", "best", "largest", "smallest"}
    for name, key in {"worst": values, "best": -values, "largest": -area, "smallest": area}.items():
        images, counted = found[name]
        assert counted == some and lesion[images[:some]].all() and sorted(images) == list(range(24))
        assert (np.diff(key[images[:some]]) >= 0).all(), name
    empty = replace(
        seen, counts=np.stack([seen.counts.sum(2), np.zeros_like(seen.counts[:, :, 0])], axis=2)
    )
    assert {name: order.counted for name, order in rankings(empty).items()} == {
        "random": 24,
        "worst": 24,
        "best": 24,
    }
