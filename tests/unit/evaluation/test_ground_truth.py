"""Tests of ground truth and predictions per image: unknown, normal and refused ones."""

import numpy as np
import pytest

from evaluation.localization import (
    Detections,
    GroundTruth,
    LocalizationConfig,
    compute_image_stats,
    find_component_boxes,
    reconcile_boxes_with_label,
)


def test_a_label_tells_normal_from_unknown():
    box = [[0, 0, 1, 1]]
    assert (
        reconcile_boxes_with_label(1, None) is None
        and reconcile_boxes_with_label(1, []) is None
        and reconcile_boxes_with_label(1, box) == box
    )
    assert (
        len(reconcile_boxes_with_label(0, None)) == 0
        and len(reconcile_boxes_with_label(0, box)) == 0
    )
    assert find_component_boxes(np.zeros((3, 3), bool)).shape == (0, 4)


def test_what_has_another_shape_is_refused():
    with pytest.raises(ValueError, match="give each box one finite score"):
        Detections(None, [[0, 0, 1, 1]], [])
    with pytest.raises(ValueError, match="give N x 4 numbers"):
        GroundTruth("a", "1", 4, 4, [[0, 0, 1]])
    with pytest.raises(ValueError, match="true mask of 'a' is"):
        GroundTruth("a", "1", 4, 4, [], np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="pseudo mask of 'a' is"):
        compute_image_stats(
            GroundTruth("a", "1", 1, 2, None, np.array([[True, False]])),
            Detections(mask=np.ones((2, 2), bool)),
            LocalizationConfig(),
        )


def test_boxes_are_ranked_by_their_score_and_ties_stay_as_they_come():
    said = Detections(None, [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.5, 0.9, 0.5])
    assert said.boxes[:, 2].tolist() == [2, 1, 3] and said.scores.tolist() == [0.9, 0.5, 0.5]
