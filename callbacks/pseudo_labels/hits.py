"""Which boxes hit which lesions, how many lesions the first few boxes hit, and how well masks overlap."""

import numpy as np
import torch
from torchvision.ops import box_iou

from callbacks.pseudo_labels.truth import Detections, GroundTruth


def pairwise_box_iou(lesions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union, `T x K`, of lesions `T x 4` and boxes `K x 4`; 0 where both are empty."""
    return np.nan_to_num(box_iou(torch.from_numpy(lesions), torch.from_numpy(boxes)).numpy())


def center_hit(lesions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Bool `T x K`: the centre of the box lies in the lesion's box (its edge included)."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((lesions[:, None, :2] <= centre) & (centre <= lesions[:, None, 2:])).all(-1)


def hits_at_k(
    lesions: np.ndarray, boxes: np.ndarray, iou_threshold: float, max_boxes: int
) -> tuple[dict[str, float], dict[str, float]]:
    """What the first 1, 2, ... boxes of one image do.

    Args:
        lesions: `T x 4`.
        boxes: `K x 4`, strongest first.
        iou_threshold: IoU from which on a box hits.
        max_boxes: Boxes at most.

    Returns:
        Means, 0 or 1 (NaN where there is no lesion): `image_hit_iou_at_1`, `image_hit_centre_at_1`,
        ...; and sums over the lesions: `hit_rate_iou_at_1`, `hit_rate_centre_at_1`, `iou_at_1` (of
        the best box), ....
    """
    means, sums = {}, {}
    ious = pairwise_box_iou(lesions, boxes)
    for b in range(1, max_boxes + 1):
        for kind, match in (("iou", ious >= iou_threshold), ("centre", center_hit(lesions, boxes))):
            hit = match[:, :b].any(1)
            means[f"image_hit_{kind}_at_{b}"] = float(hit.any()) if len(lesions) else np.nan
            sums[f"hit_rate_{kind}_at_{b}"] = float(hit.sum())
        sums[f"iou_at_{b}"] = float(ious[:, :b].max(1, initial=0).sum())
    return means, sums


def froc_events(
    lesions: np.ndarray, detections: Detections, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """What one image adds to the FROC as the bound on the score falls.

    A box is true if its centre lies in a lesion's box or their IoU reaches `iou_threshold`. A lesion is
    found by the strongest of its true boxes; the others of it are neither found nor false. One box
    may find several lesions.

    Returns:
        Scores `E`, and bool `E`: a lesion is found there, else a false positive stands there.
    """
    boxes, scores = np.asarray(detections.boxes), np.asarray(detections.scores)
    match = center_hit(lesions, boxes) | (pairwise_box_iou(lesions, boxes) >= iou_threshold)
    found = (
        scores[match[match.any(1)].argmax(1)] if match.any() else scores[:0]
    )  # boxes come strongest first
    false = scores[~match.any(0)]
    return np.concatenate([found, false]), np.arange(len(found) + len(false)) < len(found)


def mask_dice(truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """Dice of one image's pseudo mask: `dice`, 0 where none was drawn, and `dice_drawn`, NaN there; both NaN where no lesion has a true mask.

    Raises:
        ValueError: the pseudo mask has another size than the true one.
    """
    if truth.mask is None or not truth.mask.any():
        return {"dice": np.nan, "dice_drawn": np.nan}
    if detections.mask is None or not detections.mask.any():
        return {"dice": 0.0, "dice_drawn": np.nan}
    if detections.mask.shape != truth.mask.shape:
        raise ValueError(
            f"the pseudo mask of '{truth.id}' is {detections.mask.shape}, the true one"
            f" {truth.mask.shape}; bring it to the image's own size"
        )
    a, b = truth.mask.astype(bool), detections.mask.astype(bool)
    dice = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return {"dice": dice, "dice_drawn": dice}
