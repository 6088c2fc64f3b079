"""Tests of histograms against plain counting, on every kind of grid."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox
from evaluation.evidence import Evidence, SegmentationEvidence, read_evidence, write_evidence
from evaluation.logit_bins import quantize_logits
from evaluation.logit_histogram import logit_histograms


def counted(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    byte = quantize_logits(torch.from_numpy(logits)).numpy()
    return np.stack([np.bincount(byte[truth == side], minlength=256) for side in (0, 1)])


def test_same_grid_equals_plain_counting():
    logits, truth = (
        torch.randn(3, 2, 16, 16) * 5,
        torch.randint(0, 2, (3, 2, 16, 16), dtype=torch.uint8),
    )
    found = logit_histograms(logits, truth, [ContentBox(0, 0, 16, 16)] * 3)
    for i in range(3):
        for c in range(2):
            assert np.array_equal(
                found[i, c].numpy(), counted(logits[i, c].numpy(), truth[i, c].numpy())
            )


def test_padding_does_not_count_and_logits_are_resized_to_the_truth():
    logits = torch.randn(2, 1, 16, 16) * 5
    content = [ContentBox(4, 0, 8, 16), ContentBox(0, 3, 16, 10)]
    truth = [
        torch.randint(0, 2, (1, 20, 40), dtype=torch.uint8),
        torch.randint(0, 2, (1, 16, 10), dtype=torch.uint8),
    ]
    found = logit_histograms(logits, truth, content)
    resized = F.interpolate(
        logits[:1, :, 4:12, :], size=(20, 40), mode="bilinear", align_corners=False
    )[0, 0]
    assert np.array_equal(found[0, 0].numpy(), counted(resized.numpy(), truth[0][0].numpy()))
    assert np.array_equal(
        found[1, 0].numpy(), counted(logits[1, 0, :, 3:13].numpy(), truth[1][0].numpy())
    )
    assert found.sum((1, 2, 3)).tolist() == [800, 160]


def evidence(ids=("a", "b"), counts=None, **more) -> SegmentationEvidence:
    n = len(ids)
    counts = (
        np.random.default_rng(0).integers(0, 9, (n, 1, 2, 256)).astype(np.int32)
        if counts is None
        else counts
    )
    rule = np.tile([128.0, 0.0, 128.0], (n, 1, 1))
    return SegmentationEvidence(
        ids=np.array(ids),
        groups=np.array(ids),
        counts=counts,
        rule=rule,
        classes=("lesion",),
        grid="native",
        **more,
    )


def test_written_evidence_reads_back(tmp_path):
    one = evidence(group_is="patient")
    write_evidence(one, tmp_path / "e.npz")
    again = read_evidence(tmp_path / "e.npz")
    assert (
        again.classes == one.classes
        and again.grid == "native"
        and again.group_is == "patient"
        and again.identity == one.identity
    )
    for name in ("ids", "groups", "counts", "rule"):
        assert np.array_equal(getattr(again, name), getattr(one, name))


def test_damaged_evidence_is_refused(tmp_path):
    write_evidence(evidence(), tmp_path / "e.npz")
    (tmp_path / "e.npz").write_bytes((tmp_path / "e.npz").read_bytes()[:200])
    with pytest.raises(UserError, match=r"e\.npz cannot be read as evidence"):
        read_evidence(tmp_path / "e.npz")


def test_identity_is_of_images_truth_and_grid_not_of_predictions_or_order():
    one = evidence()
    moved = np.roll(one.counts, 5, axis=3)  # other predictions, the same truth
    assert evidence(counts=moved).identity == one.identity
    assert evidence(("b", "a"), one.counts[::-1]).identity == one.identity
    assert evidence(("a", "c"), one.counts).identity != one.identity
    assert evidence(counts=one.counts[:, :, ::-1]).identity != one.identity


def test_merging_counts_an_image_once():
    merged = Evidence.merge([evidence(("a", "b")), evidence(("b", "c"))])
    assert merged.ids.tolist() == ["a", "b", "c"] and merged.counts.shape == (3, 1, 2, 256)
