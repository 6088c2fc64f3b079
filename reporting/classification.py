"""Cases, curves and tables of the pages of classifications.

The names are those of `reporting.task_view.TaskView`.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from evaluation.evidence import ClassificationEvidence
from evaluation.threshold_sweep import classification_at_thresholds as at_all_thresholds
from evaluation.threshold_sweep import classification_slider_start as slider_start
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
from reporting.figures.classification import classification_figures as figures
from reporting.image_table import classification_columns as image_columns
from reporting.tables import classification_tables as tables

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

TASK = "Classification"
LEGEND = (
    "The images have the size of the network's input. Errors are those at the decision rule, the"
    " most confident first.",
) * 2
OVERLAY = ("the image at the size of the network's input",) * 2
_RULE = (
    "An image shows the class if sigmoid(logit / temperature) reaches the threshold; if the classes"
    " exclude each other, the decision is the most probable class. The rule was optimized on val"
    " and applied to test without a change."
)


def panels(evidence: Mapping[str, ClassificationEvidence]) -> dict[str, dict[str, str]]:
    """Return no figures by class: each figure of a classification shows all classes."""
    return {}


def explain_rule(evidence: ClassificationEvidence) -> str:
    """Return how the rule decides."""
    return _RULE


def class_tags(classes: Sequence[str]) -> tuple[ClassTag, ...]:
    """Return no tags: nothing on an image has the color of a class."""
    return ()


def encode_logit_maps(
    batch: "Sample",
    i: int,
    logits: "Tensor",
    channels: Sequence[int],
    side: int,
    rule: "DecisionRule | None" = None,
) -> tuple[dict[int, str], tuple[int, int]]:
    """Return no maps: an image has one logit per class."""
    return {}, (0, 0)


def rankings(evidence: ClassificationEvidence, seed: int = 0) -> dict[str, Ranking]:
    """Order all images at random, and by the most confident errors of each kind."""
    random = np.random.default_rng(seed).permutation(len(evidence))
    found = {"random": Ranking(random, len(evidence))}
    for kind, errors in _classification_errors(evidence).items():
        first = dict.fromkeys(i for i, _ in errors)
        found[kind] = Ranking(
            np.array([*first, *(i for i in random.tolist() if i not in first)], int), len(first)
        )
    return found


def select_cases(evidence: ClassificationEvidence, number: int, seed: int = 0) -> list[Case]:
    """Choose `number` random images and as many of each kind of error, no image twice."""
    wrong: dict[str, dict[int, int]] = {
        kind: dict(reversed(errors)) for kind, errors in _classification_errors(evidence).items()
    }  # image -> the class of its most confident error
    picked = choose_cases(rankings(evidence, seed), number)
    return [
        Case(kind, str(evidence.ids[i]), _label_caption(evidence, i, wrong.get(kind, {}).get(i)))
        for kind, i in picked
    ]


def select_examples(
    evidence: ClassificationEvidence, number: int, ids: Sequence[str] | None = None
) -> list[Case]:
    """Return the named images, or `number` confident errors and random images in turn."""
    if ids is not None:
        return [
            Case("selected", str(evidence.ids[i]), _label_caption(evidence, i))
            for i in indices_of(evidence.ids, ids)
        ]
    rows = {
        kind: list(cases)
        for kind, cases in groupby(select_cases(evidence, number), lambda case: case.kind)
    }
    return round_robin(dict(reversed(rows.items())), number)


def _classification_errors(evidence: ClassificationEvidence) -> dict[str, list[tuple[int, int]]]:
    """Return kind of error -> (image, class) pairs, the most confident first."""
    predicted, truth, probability = evidence.predicted, evidence.labels > 0, evidence.probability
    kinds = {"most confident false positives": (predicted & ~truth, probability)}
    # an error between exclusive classes is a false positive of one and a negative of another
    if not evidence.exclusive:
        kinds["most confident false negatives"] = (~predicted & truth, 1 - probability)
    return {
        kind: [
            (i, c) for i, c in np.argwhere(wrong)[np.argsort(-sure[wrong], kind="stable")].tolist()
        ]
        for kind, (wrong, sure) in kinds.items()
    }


def _label_caption(evidence: ClassificationEvidence, i: int, channel: int | None = None) -> str:
    """State the probability of `channel`, or of the most probable class, and the true classes."""
    probability = evidence.probability[i]
    c = int(probability.argmax()) if channel is None else channel
    true = [name for name, label in zip(evidence.classes, evidence.labels[i], strict=True) if label]
    return f"p({evidence.classes[c]}) = {probability[c]:.3f}, truth: {', '.join(true) or 'none'}"


def render_image(batch: "Sample", i: int, side: int = SIDE) -> np.ndarray:
    """Return image `i` at the network's input size: BGR, no padding, longest side `side` pixels.

    A dark image is shown with the display gamma.
    """
    shown = visible_channels(batch["image"][i][batch["content"][i].slices].numpy())
    pixels = shown.repeat(3 // len(shown), 0).transpose(1, 2, 0)
    pixels = apply_gamma(pixels, display_gamma(pixels))
    return enlarge(np.ascontiguousarray(pixels[..., ::-1]), side=side)


def render_panes(
    batch: "Sample", i: int, logits: "Tensor", rule: "DecisionRule", side: int = SIDE
) -> dict[str, np.ndarray]:
    """Return the picture as the only pane."""
    return {"image": render_image(batch, i, side)}
