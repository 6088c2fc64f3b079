"""Tests of the conversion between a logit byte and its probability."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.logit_bins import HALF_BIN, bin_of, bin_probability, quantize_logits


@given(st.floats(-15.9, 15.9))
def test_a_byte_s_probability_is_the_logit_s_to_an_eighth(logit):
    byte = int(quantize_logits(torch.tensor(logit)))
    edge = math.log(bin_probability(byte) / (1 - bin_probability(byte)))
    assert edge - 1e-4 <= logit < edge + 0.125 + 1e-4


@given(st.floats(0.001, 0.999), st.floats(-12, 12))
def test_a_byte_threshold_means_at_least_the_next_edge(probability, logit):
    byte = bin_of(probability)
    assert (
        bin_probability(byte) >= probability - 1e-9
        and bin_probability(byte - 1) < probability + 1e-9
    )


def test_fixed_points():
    assert quantize_logits(torch.tensor([0.0, -1e-3, -99, 99, 15.99])).tolist() == [
        HALF_BIN,
        HALF_BIN - 1,
        0,
        255,
        255,
    ]
    assert bin_of(0.5) == HALF_BIN and bin_of(0.0) == 0 and bin_of(1.0) == 256
