"""Exclusive classes against torch, torchmetrics and MONAI, with ties and ignored pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)
from torchmetrics.functional.segmentation import dice_score

from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox
from evaluation.bootstrap import CLASS_MEAN, bootstrap_metrics, paired_differences
from evaluation.evidence import Evidence, SegmentationEvidence, read_evidence, write_evidence
from evaluation.exclusive_classes import quantize_margins, to_class_map, to_planes
from evaluation.logit_histogram import logit_histograms
from evaluation.metrics.segmentation import dice, iou
from evaluation.rule_modules import ExclusiveSegmentationRule
from tests.factories.exclusive_masks import batch_of, collect, evidence_of, make_module, scene

LEFT_OUT = -1  # class of an ignored pixel, for torchmetrics


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([1.0, 1e-9, 1e4]))
def test_bytes_decide_exactly_as_torch_s_argmax_also_at_ties_and_tiny_margins(seed, classes, scale):
    logits = scene(seed, classes)[0] * scale
    byte = quantize_margins(logits)
    every = torch.cat([torch.zeros(len(logits), 1, *logits.shape[2:]), logits], 1)
    expected = every.argmax(1)
    assert torch.equal(to_class_map(byte >= 128), expected)
    assert ((byte >= 128).sum(1) <= 1).all()
    assert torch.equal(ExclusiveSegmentationRule(classes)(logits), to_planes(expected, classes))


def test_ties_go_to_the_background_and_then_to_the_first_class():
    logits = torch.tensor([[0.0, 0.0], [2.0, 2.0], [-1.0, 0.0], [1e-9, 0.0], [-1e-9, -1e-9]])
    assert (quantize_margins(logits[..., None, None]) >= 128)[..., 0, 0].tolist() == [
        [False, False],
        [True, False],
        [False, False],
        [True, False],
        [False, False],
    ]
    bytes_ = quantize_margins(torch.tensor([[3.0, 1.0], [-2.0, -8.0]])[..., None, None])
    assert bytes_[..., 0, 0].tolist() == [[128 + 16, 128 - 16], [128 - 16, 128 - 64]]


def test_where_two_planes_are_true_the_first_one_wins():
    planes = torch.tensor([[[0, 1, 0, 1]], [[0, 0, 1, 1]]], dtype=torch.uint8)[None]
    assert to_class_map(planes).tolist() == [[[0, 1, 2, 1]]]
    module = make_module(2)
    module.update_predictions(torch.full((1, 2, 1, 4), -5.0), batch_of(planes), "val")
    assert collect(module).truth[0].tolist() == [[2, 2], [3, 1]]


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([0.0, 0.3, 1.0]))
def test_scores_of_each_image_and_class_are_those_of_torchmetrics_and_monai(seed, classes, ignored):
    evidence, predicted, true, left_out = evidence_of(seed, classes, ignored=ignored)
    kept = torch.ones_like(true, dtype=torch.bool) if left_out is None else left_out[:, 0] == 0
    number = classes + 1
    for i in range(len(evidence)):
        here, there = predicted[i][kept[i]], true[i][kept[i]]
        expected = multiclass_confusion_matrix(here, there, number) if len(here) else 0
        assert np.array_equal(evidence.confusion[i], np.broadcast_to(expected, (number, number)))
        if not len(here):
            continue
        planes = [torch.nn.functional.one_hot(p, number).T[None, 1:] for p in (here, there)]
        by_monai = (
            compute_dice(*planes, include_background=True, ignore_empty=False)[0],
            compute_iou(*planes, include_background=True, ignore_empty=False)[0],
        )
        by_torchmetrics = (
            dice_score(here[None], there[None], number, average="none", input_format="index")[0],
            multiclass_jaccard_index(here, there, number, average=None),
        )
        for c in range(classes):
            pixels = evidence.decision(c).pixels
            both_empty = not ((here == c + 1) | (there == c + 1)).any()
            for score, monai, other in zip((dice, iou), by_monai, by_torchmetrics, strict=True):
                assert score(pixels)[i] == pytest.approx(float(monai[c]), abs=1e-6)
                if not both_empty:  # torchmetrics gives 0 or NaN; here both empty are 1
                    assert score(pixels)[i] == pytest.approx(float(other[c + 1]), abs=1e-6)


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_pooled_scores_and_calibration_are_those_of_torchmetrics(ignored):
    logits, truth, left_out = scene(3, images=20, ignored=ignored)
    module = make_module()
    module.update_predictions(logits, batch_of(truth, left_out), "val")
    evidence = collect(module)
    # double, because 1e-9 is lost in a float32 probability, and then another class comes first
    probability = torch.cat([torch.zeros(20, 1, 12, 17), logits], 1).double().softmax(1)
    true = to_class_map(truth)
    if left_out is not None:
        true = true.masked_fill(left_out[:, 0] > 0, LEFT_OUT)
    kept = true != LEFT_OUT
    scores = bootstrap_metrics(evidence, resamples=10)
    one = scores[evidence.classes[0]]
    flat = probability.movedim(1, -1)[kept]
    error = multiclass_calibration_error(flat, true[kept], 4, n_bins=15, norm="l1")
    assert one["ece"].value == pytest.approx(float(error), abs=1e-6)
    accuracy = multiclass_accuracy(flat.argmax(1), true[kept], 4, average="micro")
    assert one["pixel_accuracy"].value == pytest.approx(float(accuracy))
    recall = multiclass_accuracy(flat.argmax(1), true[kept], 4, average=None)[1:]
    for name, expected in zip(evidence.classes, recall, strict=True):
        assert scores[name]["recall"].value == pytest.approx(float(expected))
    assert scores[CLASS_MEAN]["pixel_accuracy"].value == pytest.approx(float(accuracy))
    assert not {"average_precision", "image_auc"} & set(one)
    background = float((true[kept] == 0).float().mean())
    assert one["pixel_accuracy"].trivial == {"all background": pytest.approx(background)}
    assert one["ece"].trivial == {"all background": pytest.approx(1 - background)}


def test_ignored_pixels_of_overlapping_classes_are_in_no_histogram():
    logits, truth, ignored = scene(5, ignored=0.4)
    content = [ContentBox(0, 0, 12, 17)] * len(truth)
    found = logit_histograms(logits, truth, content, ignored)
    for i in range(len(truth)):
        kept = ignored[i, 0] == 0
        one = [planes[i][:, kept][None, :, None] for planes in (logits, truth)]
        alone = logit_histograms(*one, [ContentBox(0, 0, 1, int(kept.sum()))])
        assert torch.equal(found[i], alone[0])
    of_lists = logit_histograms(logits, list(truth), content, list(ignored))
    assert torch.equal(found, of_lists)


def test_evidence_is_small_and_reads_back(tmp_path):
    evidence = evidence_of(1, images=9)[0]
    arrays = sum(getattr(evidence, name).nbytes for name in evidence.arrays)
    assert arrays <= 3000 * len(evidence) * len(evidence.classes)
    write_evidence(evidence, tmp_path / "e.npz")
    assert (tmp_path / "e.npz").stat().st_size <= 3000 * len(evidence) * len(evidence.classes)
    again = read_evidence(tmp_path / "e.npz")
    assert isinstance(again, SegmentationEvidence) and again.exclusive is True
    assert again.identity == evidence.identity and again.evaluation_grid.endswith("classes")
    for name in ("ids", "groups", "rule", *evidence.arrays):
        assert np.array_equal(getattr(again, name), getattr(evidence, name))
    assert str(bootstrap_metrics(again, 20)) == str(bootstrap_metrics(evidence, 20))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_evidence_of_earlier_versions_reads_as_overlapping_classes(version, tmp_path):
    counts = np.random.default_rng(0).integers(0, 9, (2, 1, 2, 256)).astype(np.int32)
    rule = np.tile([128.0, 0.0, 128.0], (2, 1, 1))
    stored = {"ids": np.array(["a", "b"]), "groups": np.array(["a", "b"]), "counts": counts}
    stored |= {"rule": rule, "classes": np.array(["x"]), "group_is": "image", "grid": "native"}
    if version > 1:
        stored["kind"] = "mask"
    if version > 2:
        stored |= {"measured": np.zeros((2, 1, 0)), "measurements": "{}"}
    np.savez_compressed(tmp_path / "e.npz", version=version, **stored)
    found = read_evidence(tmp_path / "e.npz")
    assert found.exclusive is False and found.confusion.shape == (2, 0, 0)
    assert "average_precision" in {score.name for score in found.metrics}
    write_evidence(found, tmp_path / "again.npz")
    assert read_evidence(tmp_path / "again.npz").identity == found.identity


def test_merging_and_cutting_keep_what_belongs_to_an_image():
    evidence = evidence_of(2, images=8)[0]
    parts = [evidence.subset(np.arange(5)), evidence.subset(np.arange(3, 8))]
    merged = Evidence.merge(parts)
    for name in ("ids", *evidence.arrays):
        assert np.array_equal(getattr(merged, name), getattr(evidence, name))
    assert merged.identity == evidence.identity
    odd = evidence.subset(np.arange(8) % 2 == 1)
    assert np.array_equal(odd.confusion, evidence.confusion[1::2]) and odd.exclusive
    assert evidence.exclude({"i000"}).ids.tolist() == evidence.ids[1:].tolist()


def test_identity_is_of_truth_and_not_of_predictions_and_tells_exclusive_classes_apart():
    evidence = evidence_of(4)[0]
    module = make_module()
    module.update_predictions(-scene(4)[0], batch_of(scene(4)[1]), "val")
    other = collect(module)
    assert other.identity == evidence.identity
    assert not np.array_equal(other.confusion, evidence.confusion)
    assert evidence_of(4, ignored=0.2)[0].identity != evidence.identity
    assert replace(evidence, exclusive=False).identity != evidence.identity


def test_intervals_resample_groups_and_runs_are_compared_on_the_same_ones():
    better, predicted, true, _ = evidence_of(6, images=60, groups=25)
    module = make_module()
    logits, truth, _ = scene(6, images=60)
    module.update_predictions(logits.roll(1, 3), batch_of(truth, groups=25), "val")
    worse = collect(module)
    estimate = bootstrap_metrics(better)[CLASS_MEAN]["pixel_accuracy"]
    group = np.unique(better.groups, return_inverse=True)[1]
    random = np.random.default_rng(0)
    right = (predicted == true).float().mean((1, 2)).numpy()
    means = []
    for _ in range(1000):
        counts = random.multinomial(25, np.full(25, 1 / 25))[group]
        means.append((counts * right).sum() / counts.sum())
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    gap = paired_differences([worse], [better])["pixel_accuracy"]
    rolled = to_class_map(ExclusiveSegmentationRule(3)(logits.roll(1, 3)))
    assert gap.value == pytest.approx(right.mean() - float((rolled == true).float().mean()))
    assert gap.low > 0 and gap.share_above == 1


def test_one_image_that_is_ignored_as_a_whole_scores_as_two_empty_masks():
    evidence = evidence_of(7, ignored=1.0)[0]
    assert (dice(evidence.decision(0).pixels) == 1).all() and evidence.truth.sum() == 0
    assert np.isnan(bootstrap_metrics(evidence, 5)[CLASS_MEAN]["pixel_accuracy"].value)


def test_a_later_version_is_refused(tmp_path):
    write_evidence(evidence_of(1)[0], tmp_path / "e.npz")
    stored = dict(np.load(tmp_path / "e.npz"))
    np.savez(tmp_path / "later.npz", **(stored | {"version": 99}))
    with pytest.raises(UserError, match="evidence of version 99"):
        read_evidence(tmp_path / "later.npz")
