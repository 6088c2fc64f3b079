"""Decision rules on arrays: equal to the torch modules bit for bit, and to hand-computed values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.decision_rule import (
    apply_mask_rule,
    decide_labels,
    image_probabilities,
    label_probabilities,
    mask_probabilities,
    predict_class_planes,
    sigmoid,
)
from evaluation.logit_bins import bin_probability, quantize_array, quantize_logits
from evaluation.metrics.segmentation import apply_rule
from evaluation.rule_modules import (
    ClassificationRule,
    ExclusiveSegmentationRule,
    SegmentationRule,
)

BOUNDARIES = (np.arange(-2, 260) / 8 - 16).astype(np.float32)  # where one byte ends


def boundary_logits(rng, shape):
    """Return logits on, just below and just above the edges of bytes, and others between them."""
    edges = rng.choice(BOUNDARIES, shape)
    steps = rng.integers(-1, 2, shape)
    near = np.where(steps > 0, np.nextafter(edges, np.float32(np.inf)), edges)
    near = np.where(steps < 0, np.nextafter(edges, np.float32(-np.inf)), near)
    return np.where(rng.random(shape) < 0.7, near, rng.normal(0, 6, shape)).astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_bytes_of_arrays_and_tensors_agree(seed):
    logits = boundary_logits(np.random.default_rng(seed), (500,))
    assert np.array_equal(quantize_array(logits), quantize_logits(torch.from_numpy(logits)).numpy())


@given(st.integers(0, 2**32 - 1), st.integers(0, 256), st.integers(0, 256), st.integers(0, 12))
def test_masks_of_arrays_and_tensors_agree(seed, top, bottom, pixels):
    rng = np.random.default_rng(seed)
    logits = boundary_logits(rng, (2, 3, 4))
    module = SegmentationRule(2)
    # the smallest area is often exactly that of a whole number of pixels
    module.values = torch.tensor([[top, pixels / 12, bottom], [bottom, 0.05, top]]).double()
    expected = module(torch.from_numpy(logits)[None])[0].numpy()
    assert np.array_equal(apply_mask_rule(logits, module.values.numpy()), expected)


@given(st.integers(0, 2**32 - 1))
def test_classes_of_arrays_and_tensors_agree_also_at_ties(seed):
    rng = np.random.default_rng(seed)
    logits = rng.choice(np.array([-1, 0, 0.5, 1], np.float32), (3, 5, 4))
    expected = ExclusiveSegmentationRule(3)(torch.from_numpy(logits)[None])[0].numpy()
    assert np.array_equal(predict_class_planes(logits), expected)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0]))
def test_the_probability_of_an_image_is_the_ranking_of_its_evidence(seed, min_area):
    logits = np.random.default_rng(seed).normal(0, 4, (1, 10, 10)).astype(np.float32)
    rule = np.array([[140.0, min_area, 128.0]])
    counts = np.zeros((1, 2, 256), np.int64)
    counts[0, 0] = np.bincount(quantize_array(logits).ravel(), minlength=256)
    byte = apply_rule(counts, rule).ranking[0]
    (found,) = image_probabilities(logits, rule, exclusive=False)
    assert bin_probability(byte) <= found < bin_probability(byte + 1)


def test_the_probability_of_an_image_is_that_of_its_third_largest_logit():
    logits = np.array([[[5, 4, 3, 2], [1, 0, -1, -2], [-3, -4, -5, -6]]], np.float32)
    found = image_probabilities(logits, np.array([[128, 3 / 12, 128]]), exclusive=False)
    assert found == pytest.approx([1 / (1 + np.exp(-3))])


def test_exclusive_probabilities_sum_to_one_with_the_background():
    logits = np.array([[[0.0, 2.0]], [[0.0, -1.0]]], np.float32)
    found = mask_probabilities(logits, exclusive=True)
    assert found[:, 0, 0] == pytest.approx([1 / 3, 1 / 3])
    total = 1 + np.exp(2) + np.exp(-1)
    assert found[:, 0, 1] == pytest.approx([np.exp(2) / total, np.exp(-1) / total], rel=1e-6)
    assert image_probabilities(logits, np.zeros((2, 3)), True) == pytest.approx(
        [np.exp(2) / total, 1 / 3], rel=1e-6
    )


@pytest.mark.parametrize("exclusive", [False, True])
def test_labels_of_arrays_and_tensors_agree(exclusive):
    logits = np.random.default_rng(1).normal(0, 3, (200, 3)).astype(np.float32)
    rule = ClassificationRule(3, exclusive)
    rule.values = torch.tensor([[0.3, 1.7, 1], [0.5, 1.7, 1], [0.8, 1.7, 1]]).double()
    threshold, temperature, _ = rule.values.numpy().T
    probability = label_probabilities(logits, temperature, exclusive)
    expected = rule.probability(torch.from_numpy(logits)).numpy()
    assert np.abs(probability - expected).max() < 1e-6
    decided = rule(torch.from_numpy(logits)).numpy()
    assert np.array_equal(decide_labels(probability, threshold, exclusive), decided)


def test_the_sigmoid_of_large_logits_is_finite():
    assert sigmoid(np.array([-1e5, 0.0, 1e5])).tolist() == [0, 0.5, 1]
