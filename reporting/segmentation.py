"""Cases, curves and tables of the pages of segmentations.

The names are those of `reporting.task_view.TaskView`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import bin_probability, quantize_logits
from evaluation.metrics.segmentation import PixelCounts, SegmentationDecision, dice
from evaluation.threshold_sweep import segmentation_at_thresholds as at_all_thresholds
from evaluation.threshold_sweep import segmentation_slider_start as slider_start
from evaluation.threshold_sweep import segmentation_tables
from reporting.cases import (
    SIDE,
    Case,
    ClassTag,
    Ranking,
    apply_gamma,
    choose_cases,
    display_gamma,
    enlarge,
    indices_of,
    round_robin,
    visible_channels,
)
from reporting.figures.segmentation import segmentation_figures as figures
from reporting.figures.segmentation import segmentation_panels as panels
from reporting.image_table import segmentation_columns as image_columns
from reporting.overlays import (
    class_color,
    encode_logit_maps,
    fill_mask,
    fill_masks,
    outline_mask,
    outline_masks,
)
from reporting.tables import segmentation_confusion

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.loading.dataset import Sample
    from evaluation.rule_modules import DecisionRule

__all__ = [
    "LEGEND",
    "OVERLAY",
    "TASK",
    "at_all_thresholds",
    "class_tags",
    "encode_logit_maps",
    "explain_rule",
    "figures",
    "image_columns",
    "panels",
    "rankings",
    "render_image",
    "render_panes",
    "select_cases",
    "select_examples",
    "slider_start",
    "tables",
]

TASK = "Segmentation"
LEGEND = (
    "The truth is green, the prediction orange. Worst and best are the images with the lowest and"
    " the highest Dice, smallest and largest those with the smallest and the largest lesion; all"
    " of them show a lesion.",
    "Outlines are the truth, filled areas the prediction; each class has a color. Worst and best"
    " are the images with the lowest and the highest Dice, smallest and largest those with the"
    " smallest and the largest lesions; all of them show a lesion. The Dice of an image is the mean"
    " over the classes in its truth or its prediction. At most six classes are named per image.",
)
OVERLAY = ("green: truth, orange: prediction", "outlines: truth, filled: prediction")
_RULE = (
    "An image shows the class if the probability reaches the threshold top on at least the"
    " fraction min area of its pixels. Then the mask holds all pixels whose probability reaches the"
    " threshold bottom. The rule was optimized on val and applied to test without a change."
)
_ARGMAX_RULE = (
    "Each pixel gets the class with the highest probability, or the background where that is more"
    " probable (argmax). The probabilities are a softmax over the background and all classes."
    " There is no threshold, so that nothing was searched on val."
)
TRUTH_COLOR = (70, 200, 60)  # BGR, for a single class
PREDICTION_COLOR = (50, 130, 250)
MAX_TAGS = 6  # tags of one image


def explain_rule(evidence: SegmentationEvidence) -> str:
    """Return how the rule decides."""
    return _ARGMAX_RULE if evidence.exclusive else _RULE


def tables(evidence: Mapping[str, SegmentationEvidence]) -> dict[str, Any]:
    """Return the tables of report.json for masks: curves by threshold and confusion by split."""
    confusion = {
        split: segmentation_confusion(split_evidence) for split, split_evidence in evidence.items()
    }
    notes = {
        split: {
            name: split_evidence.empty_mask_notes(c)
            for c, name in enumerate(split_evidence.classes)
        }
        for split, split_evidence in evidence.items()
    }
    return segmentation_tables(evidence) | {"confusion": confusion, "empty_mask_notes": notes}


def rankings(evidence: SegmentationEvidence, seed: int = 0) -> dict[str, Ranking]:
    """Order images at random, by Dice (worst, best) and by lesion area (largest, smallest).

    In all orders but `random`, images with a lesion come first. There are no orders by area if no
    image has a lesion.
    """
    scores, lesion = _image_scores(_decided_images(evidence)), (evidence.truth[:, :, 1] > 0).any(1)
    area, some = (
        evidence.truth[:, :, 1].sum(1) / np.maximum(1, evidence.truth.sum((1, 2))),
        int(lesion.sum()),
    )
    found = {
        "random": Ranking(np.random.default_rng(seed).permutation(len(evidence)), len(evidence))
    }
    keys = {"worst": scores, "best": -scores} | (
        {"largest": -area, "smallest": area} if some else {}
    )
    return found | {
        kind: Ranking(np.lexsort((key, ~lesion)), some or len(evidence))
        for kind, key in keys.items()
    }


def select_cases(evidence: SegmentationEvidence, number: int, seed: int = 0) -> list[Case]:
    """Choose `number` images of each order, no image twice."""
    return _make_cases(evidence, choose_cases(rankings(evidence, seed), number))


def select_examples(
    evidence: SegmentationEvidence, number: int, ids: Sequence[str] | None = None
) -> list[Case]:
    """Return the named images, or `number` of the best, worst and largest in turn."""
    if ids is not None:
        return _make_cases(evidence, [("selected", i) for i in indices_of(evidence.ids, ids)])
    ranked = rankings(evidence)
    rows = {
        kind: ranked[kind].images[:number].tolist()
        for kind in ("best", "worst", "largest")
        if kind in ranked
    }
    return round_robin(
        {kind: _make_cases(evidence, [(kind, i) for i in places]) for kind, places in rows.items()},
        number,
    )


def _decided_images(evidence: SegmentationEvidence) -> list[SegmentationDecision]:
    return [evidence.decision(c) for c in range(len(evidence.classes))]


def _image_scores(decided: list[SegmentationDecision]) -> np.ndarray:
    """Return each image's mean Dice over its true or predicted classes; others would add a 1."""
    values = np.array([dice(d.pixels) for d in decided])
    relevant = np.array([d.positive | d.predicted for d in decided])
    mean = (values * relevant).sum(0) / np.maximum(1, relevant.sum(0))
    return np.where(relevant.any(0), mean, 1.0)


def _make_cases(evidence: SegmentationEvidence, picked: Sequence[tuple[str, int]]) -> list[Case]:
    """Make the cases; a single class always keeps its map, several if true or predicted."""
    decided = _decided_images(evidence)
    scores, named = _image_scores(decided), len(decided) > 1
    found = []
    for kind, i in picked:
        there = tuple(
            c for c, d in enumerate(decided) if not named or d.positive[i] or d.predicted[i]
        )
        chips = _class_tags_of(evidence.classes, decided, i) if named else ()
        found.append(
            Case(kind, str(evidence.ids[i]), f"Dice {scores[i]:.4f}", chips=chips, channels=there)
        )
    return found


def _class_tags_of(
    classes: Sequence[str], decided: list[SegmentationDecision], i: int
) -> tuple[ClassTag, ...]:
    """Return tags of the true classes with their Dice, then of false alarms, then a count."""
    there = [c for c, decision in enumerate(decided) if decision.positive[i]]
    false = [
        c
        for c, decision in enumerate(decided)
        if decision.predicted[i] and not decision.positive[i]
    ]
    labels = {
        c: f"{_image_dice(decided[c], i):.2f}" if decided[c].predicted[i] else "missed"
        for c in there
    } | dict.fromkeys(false, "false alarm")
    chips = [ClassTag(f"{classes[c]} {label}", class_color(c)) for c, label in labels.items()]
    return (
        *chips[:MAX_TAGS],
        *_count_line(len(there[MAX_TAGS:]), len(false[max(0, MAX_TAGS - len(there)) :])),
    )


def _image_dice(decided: SegmentationDecision, i: int) -> float:
    return float(dice(PixelCounts(*(part[i] for part in decided.pixels))))


def _count_line(there: int, false: int) -> tuple[ClassTag, ...]:
    """Return one chip without a color that counts the classes without chips; empty for none."""
    words = [f"{there} true class{'es' * (there > 1)}"] * (there > 0) + [
        f"{false} false alarm{'s' * (false > 1)}"
    ] * (false > 0)
    return (ClassTag(f"+{', '.join(words)}", ""),) if words else ()


def class_tags(classes: Sequence[str]) -> tuple[ClassTag, ...]:
    """Return the colors of several classes; the legend explains a single one."""
    return (
        tuple(ClassTag(name, class_color(c)) for c, name in enumerate(classes))
        if len(classes) > 1
        else ()
    )


def render_image(batch: "Sample", i: int, side: int = SIDE) -> np.ndarray:
    """Return image `i` in gray: BGR, no padding, longest side `side` pixels.

    A dark image is shown with the display gamma.
    """
    channels = visible_channels(batch["image"][i][batch["content"][i].slices].numpy())
    gray = channels.mean(0, dtype=np.float32).astype(np.uint8)
    gray = apply_gamma(gray, display_gamma(channels))
    return enlarge(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), side=side)


def render_panes(
    batch: "Sample", i: int, logits: "Tensor", rule: "DecisionRule", side: int = SIDE
) -> dict[str, np.ndarray]:
    """Return the panes of image `i`: BGR, with padding cut off as for the evidence.

    Args:
        batch: Holds its image and mask.
        i: Index in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        rule: The current mask rule.
        side: Longest side of a pane in pixels.
    """
    inside = batch["content"][i].slices
    gray = render_image(batch, i, side)
    true, left_out = batch["mask"][i][inside], None
    if "ignored" in batch:  # neither true nor predicted
        left_out = batch["ignored"][i][inside][None]
        true = true * (left_out[0] == 0)
    predicted = rule(logits[inside], left_out)[0].numpy().astype(np.uint8)
    truth, predicted_masks = (
        [enlarge(mask, cv2.INTER_NEAREST, side) for mask in masks]
        for masks in (true.numpy(), predicted)
    )
    if len(predicted_masks) > 1:
        return {
            "image": gray,
            "truth": outline_masks(gray, truth),
            "prediction": fill_masks(gray, predicted_masks),
            "overlay": outline_masks(fill_masks(gray, predicted_masks), truth),
        }
    heat = (bin_probability(quantize_logits(logits[inside])[0, 0].numpy()) * 255).astype(np.uint8)
    both = fill_mask(fill_mask(gray, truth[0], TRUTH_COLOR), predicted_masks[0], PREDICTION_COLOR)
    return {
        "image": gray,
        "truth": outline_mask(gray, truth[0], TRUTH_COLOR, width=2),
        "prediction": outline_mask(
            cv2.applyColorMap(enlarge(heat, side=side), cv2.COLORMAP_INFERNO),
            predicted_masks[0],
            (255, 255, 255),
        ),
        "overlay": outline_mask(
            outline_mask(both, truth[0], TRUTH_COLOR), predicted_masks[0], PREDICTION_COLOR
        ),
    }
