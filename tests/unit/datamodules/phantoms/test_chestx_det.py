"""Tests of ChestX-Det phantoms: repeatability, overlap, outlines and a brightness baseline."""

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from datamodules.phantoms.chest_findings import (
    FINDING_KINDS,
    draw_annotated_radiograph,
    sample_patient,
)
from datamodules.phantoms.chestx_det import draw_images, trace_outline, write


def test_phantoms_repeat_and_overlap(tmp_path):
    write(tmp_path / "one", train=12, test=4, size=48)
    write(tmp_path / "two", train=12, test=4, size=48)
    contents = [
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*") if p.is_file()}
        for name in ("one", "two")
    ]
    assert contents[0] == contents[1]
    drawn = list(draw_images(range(40), 48, 1.0, 5))
    pairs = {
        (a, b)
        for film in drawn
        for a, one in film.findings
        for b, other in film.findings
        if a < b and (one & other).any()
    }
    assert len(pairs) >= 5 and 0.05 < np.mean([not film.findings for film in drawn]) < 0.35


@pytest.mark.parametrize("kind", FINDING_KINDS)
def test_a_finding_changes_the_image_where_its_mask_is(kind):
    ratios = []
    for seed in range(8):
        patient = sample_patient(np.random.default_rng(seed))
        plain, film = (
            draw_annotated_radiograph(
                np.random.default_rng(seed), 96, 96, patient, kinds, contrast=2.0
            )
            for kinds in ((), (kind,))
        )
        assert not plain.findings and {name for name, _ in film.findings} == {kind}
        mask = np.any([mask for _, mask in film.findings], axis=0)
        change = np.abs(film.image.astype(float) - plain.image)
        ratios.append(
            change[mask].mean()
            / change[~cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool)].mean()
        )
    assert np.median(ratios) > 1.5, ratios


def test_an_outline_fills_to_its_piece():
    piece = np.zeros((9, 9), np.uint8)
    piece[1:4, 2:5] = piece[3:7, 4:8] = piece[6, 3] = 1
    corners = trace_outline(piece)
    assert sorted(corners) == [
        [2, 1],
        [2, 4],
        [3, 6],
        [3, 7],
        [4, 4],
        [4, 6],
        [5, 1],
        [5, 3],
        [8, 3],
        [8, 7],
    ]
    rows, columns = np.mgrid[:9, :9] + 0.5
    assert np.array_equal(
        Polygon(corners)
        .contains_points(np.stack([columns.ravel(), rows.ravel()], 1))
        .reshape(9, 9),
        piece,
    )
    full = np.ones((3, 4), np.uint8)
    assert sorted(trace_outline(full)) == [[0, 0], [0, 3], [4, 0], [4, 3]]


def test_brightness_does_not_find_the_findings():
    """The best gray band, the same for all images, has a Dice below 0.3 for each kind."""
    drawn = list(draw_images(range(120), 64, 2.0, 0))
    gray = np.stack([film.image for film in drawn]).astype(int)
    for kind in FINDING_KINDS:
        truth = np.stack(
            [
                np.any(
                    [mask for name, mask in film.findings if name == kind] or [np.zeros((64, 64))],
                    axis=0,
                )
                for film in drawn
            ]
        )
        inside, rest = (
            np.bincount(gray[chosen], minlength=256).cumsum() for chosen in (truth, ~truth)
        )
        low, high = np.triu_indices(256, 8)
        tp, fp = inside[high] - inside[low], rest[high] - rest[low]
        assert (2 * tp / (tp + fp + inside[-1])).max() < 0.3, kind
