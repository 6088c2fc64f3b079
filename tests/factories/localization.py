"""Small random splits for the localization tests, and loop-based reference computations."""

import numpy as np
from hypothesis import strategies as st

from evaluation.localization import Detections, GroundTruth

SIDE = 12


def _box(draw):
    x, y = draw(st.integers(0, SIDE - 2)), draw(st.integers(0, SIDE - 2))
    return [x, y, draw(st.integers(x + 1, SIDE)), draw(st.integers(y + 1, SIDE))]


@st.composite
def splits(draw, most=6):
    """(truth, said) of a few images; scores tie often."""
    found = []
    for i in range(draw(st.integers(1, most))):
        boxes = [_box(draw) for _ in range(draw(st.integers(0, 3)))]
        said = [_box(draw) for _ in range(draw(st.integers(0, 5)))]
        scores = [draw(st.integers(1, 4)) / 4 for _ in said]
        peak = draw(st.none() | st.tuples(*[st.integers(0, SIDE - 1).map(lambda k: k + 0.5)] * 2))
        found.append(
            (GroundTruth(f"{i}", f"{i}", SIDE, SIDE, boxes), Detections(peak, said, scores))
        )
    return found


def iou(a, b):
    """By counting pixels: boxes have whole corners."""
    one, two = (np.zeros((SIDE, SIDE), bool) for _ in range(2))
    for (x1, y1, x2, y2), grid in ((a, one), (b, two)):
        grid[int(y1) : int(y2), int(x1) : int(x2)] = True
    return (one & two).sum() / (one | two).sum()


def centered(lesion, box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return lesion[0] <= x <= lesion[2] and lesion[1] <= y <= lesion[3]


def froc_by_loops(split, bound):
    """Return (false positives per image, share of lesions) per score threshold, highest first."""
    lesions = sum(len(truth.boxes) for truth, _ in split)
    points = [(0.0, 0.0)]
    for least in sorted({score for _, said in split for score in said.scores}, reverse=True):
        hit = false = 0
        for truth, said in split:
            kept = [
                box for box, score in zip(said.boxes, said.scores, strict=True) if score >= least
            ]
            true = [
                [centered(lesion, box) or iou(lesion, box) >= bound for box in kept]
                for lesion in truth.boxes
            ]
            hit += sum(any(row) for row in true)
            false += sum(not any(row[k] for row in true) for k in range(len(kept)))
        points.append((false / len(split), hit / lesions if lesions else float("nan")))
    return points


def read(points, rate):
    """The line through the points, at a rate."""
    before = max((p for p in points if p[0] <= rate), key=lambda p: (p[0], p[1]))
    after = [p for p in points if p[0] > rate]
    if not after:
        return before[1]
    behind = min(after)
    return before[1] + (behind[1] - before[1]) * (rate - before[0]) / (behind[0] - before[0])
