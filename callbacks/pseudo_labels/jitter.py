"""How stable a mask is: each box is moved a little several times, and the masks are compared."""

import numpy as np

from callbacks.pseudo_labels.masks import Masks, Segmenter


def jitter_boxes(
    boxes: np.ndarray, shape: tuple[int, ...], id: str, count: int, max_shift: float, seed: int = 0
) -> np.ndarray:
    """Boxes whose four edges are moved, each by itself and evenly over `-share` to `max_shift` of the box's width or height; float `N x number x 4`.

    They follow from the seed, the image and the box alone, so that other boxes, images or ranks
    change nothing.

    Args:
        boxes: Float `N x 4`, x1, y1, x2, y2.
        shape: H, W; what would leave the image is cut off.
        id: The image's.
        count: Of moved boxes, each.
        max_shift: Below 0.5, or edges could pass each other.
        seed: Another one moves them otherwise.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    drawn = np.empty((len(boxes), count, 4))
    for i, box in enumerate(boxes):
        random = np.random.default_rng(
            [seed, *(box + 0.0).view(np.uint32), *id.encode()]
        )  # + 0.0 makes -0 a 0
        drawn[i] = box + random.uniform(-max_shift, max_shift, (count, 4)) * np.tile(
            box[2:] - box[:2], 2
        )
    return np.clip(drawn, 0, np.tile(shape[1::-1], 2))


def segment_with_jitter(
    segmenter: Segmenter,
    image: np.ndarray,
    boxes: np.ndarray,
    points: np.ndarray,
    jittered_boxes: np.ndarray,
) -> tuple[Masks, np.ndarray]:
    """The masks of the boxes, and how stable each is, by one call of the segmenter for all boxes and moved boxes of the image.

    Args:
        segmenter: What masks boxes.
        image: Uint8 `H x W`.
        boxes: Float `N x 4`.
        points: Float `N x 2`; a moved box keeps its peak.
        jittered_boxes: Float `N x k x 4`, as `jitter_boxes` gives them.

    Returns:
        `N` masks, and float64 `N`: the mean IoU of a mask with those of its moved boxes; NaN where
        k is 0.
    """
    number, each = jittered_boxes.shape[:2]
    if number == 0:
        return segmenter(image, boxes, points), np.zeros(0)
    found = segmenter(
        image,
        np.concatenate([boxes, jittered_boxes.reshape(-1, 4)]),
        np.concatenate([points, np.repeat(points, each, axis=0)]),
    )
    stable = np.full(number, np.nan)
    for i in range(number if each else 0):
        start = number + i * each
        stable[i] = np.mean(
            [mask_iou(found.masks[i], other) for other in found.masks[start : start + each]]
        )
    return (
        Masks(found.masks[:number].copy(), found.scores[:number].copy()),
        stable,
    )  # copies, so that the moved ones can be freed


def mask_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """IoU of two bool masks; 0 where both are empty."""
    return int((mask & other).sum()) / max(1, int((mask | other).sum()))
