"""Decision rules that convert logits to masks and labels, for arrays; needs only NumPy.

`evaluation/rule_modules.py` holds the same rules as torch modules. A rule has three numbers per
class: (top, min_area, bottom) for masks and (threshold, temperature, kept) for labels.
"""

import math

import numpy as np

from evaluation.logit_bins import HALF_BIN, quantize_array

ARGMAX_RULE = (HALF_BIN, 0.0, HALF_BIN)  # numbers of the argmax, for bytes of margins


def apply_mask_rule(logits: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Convert the logits of one whole image to a mask per class.

    An image shows the class if at least `min_area` of its pixels have a byte >= top; then the mask
    is where the byte is >= bottom, else it is empty.

    Args:
        logits: float32 `C x H x W`.
        rule: (top, min_area, bottom) of each class, `C x 3`; top and bottom are bytes.

    Returns:
        Bool `C x H x W`.
    """
    masks = np.zeros(logits.shape, bool)
    for channel, (top, min_area, bottom) in enumerate(np.asarray(rule, np.float64)):
        byte = quantize_array(logits[channel])
        share = np.count_nonzero(byte >= top) / byte.size
        if share >= min_area:
            masks[channel] = byte >= bottom
    return masks


def predict_class_planes(logits: np.ndarray) -> np.ndarray:
    """Convert logits of exclusive classes to masks: the most probable class of each pixel.

    The logit of the background is 0. The first one of ties wins, the background before all classes.

    Args:
        logits: float32 `C x H x W`.

    Returns:
        Bool `C x H x W`, at most one of them true per pixel.
    """
    best = np.zeros(logits.shape[1:], np.float32)
    class_map = np.zeros(logits.shape[1:], np.int64)
    for number, logit in enumerate(logits, 1):
        class_map[logit > best] = number
        best = np.maximum(best, logit)
    return class_map == np.arange(1, len(logits) + 1).reshape(-1, 1, 1)


def mask_probabilities(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """Convert logits to the probability of each class at each pixel.

    Args:
        logits: float32 `C x H x W`.
        exclusive: True for the softmax over the background, whose logit is 0, and the classes.

    Returns:
        float32 `C x H x W`.
    """
    if not exclusive:
        return sigmoid(logits)
    top = np.maximum(logits.max(0), 0)
    exponents = np.exp(logits - top)
    return (exponents / (exponents.sum(0) + np.exp(-top))).astype(np.float32)


def image_probabilities(logits: np.ndarray, rule: np.ndarray, exclusive: bool) -> np.ndarray:
    """Return the probability that the image shows each class, the score behind `image_auc`.

    It is the probability at the k-th largest logit, where k pixels are the smallest area that the
    rule takes for the class: the highest threshold `top` that would still call the image positive.
    Exclusive classes have the highest probability of any pixel.

    Args:
        logits: float32 `C x H x W` of one whole image.
        rule: (top, min_area, bottom) of each class, `C x 3`.
        exclusive: True for exclusive classes.

    Returns:
        float64 `C`.
    """
    if exclusive:
        return mask_probabilities(logits, True).reshape(len(logits), -1).max(1).astype(np.float64)
    found = []
    for logit, (_, min_area, _) in zip(logits, np.asarray(rule, np.float64), strict=True):
        pixels = max(1, math.ceil(min_area * logit.size))
        last = logit.size - min(pixels, logit.size)
        found.append(np.partition(logit, last, axis=None)[last])
    return sigmoid(np.array(found, np.float64))


def label_probabilities(logits: np.ndarray, temperature: np.ndarray, exclusive: bool) -> np.ndarray:
    """Convert the logits of labels to probabilities at a temperature per class.

    Args:
        logits: `N x C`.
        temperature: `C`, or `N x C`.
        exclusive: True for a softmax over the classes, False for a sigmoid each.

    Returns:
        float64 `N x C`.
    """
    scaled = logits.astype(np.float64) / temperature
    if not exclusive:
        return sigmoid(scaled)
    exponents = np.exp(scaled - scaled.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def decide_labels(probability: np.ndarray, threshold: np.ndarray, exclusive: bool) -> np.ndarray:
    """Decide which classes hold.

    Args:
        probability: `N x C`.
        threshold: `C`, or `N x C`; not used for exclusive classes.
        exclusive: True if the most probable class holds, the first one of ties.

    Returns:
        Bool `N x C`.
    """
    if exclusive:
        return np.arange(probability.shape[1]) == probability.argmax(1)[:, None]
    return probability >= threshold


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return `1 / (1 + exp(-logits))` in the precision of the logits; nothing overflows."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)
