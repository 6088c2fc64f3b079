"""Which classified images the page shows: a random draw, and the errors that the network was surest of."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from torch import Tensor

from callbacks.report.cases import SIDE, Case, Order, chosen, enlarge, in_turn, placed
from datamodules.sample import Sample
from lightning_modules.label_evidence import LabelEvidence
from lightning_modules.rule import Rule


def orders(evidence: LabelEvidence, seed: int = 0) -> dict[str, Order]:
    """All images at random, and from the most confident errors of either kind."""
    random = np.random.default_rng(seed).permutation(len(evidence))
    found = {"random": Order(random, len(evidence))}
    for kind, errors in _errors(evidence).items():
        first = dict.fromkeys(i for i, _ in errors)
        found[kind] = Order(
            np.array([*first, *(i for i in random.tolist() if i not in first)], int), len(first)
        )
    return found


def choose(evidence: LabelEvidence, number: int, seed: int = 0) -> list[Case]:
    """`number` random images, and as many of the most confident errors of either kind, no image twice."""
    wrong: dict[str, dict[int, int]] = {
        kind: dict(reversed(errors)) for kind, errors in _errors(evidence).items()
    }  # image -> its surest class
    picked = chosen(orders(evidence, seed), number)
    return [
        Case(kind, str(evidence.ids[i]), _caption(evidence, i, wrong.get(kind, {}).get(i)))
        for kind, i in picked
    ]


def few(evidence: LabelEvidence, number: int, ids: Sequence[str] | None = None) -> list[Case]:
    """The named images, or so many of the surest errors of either kind and of random ones, in turn."""
    if ids is not None:
        return [
            Case("asked for", str(evidence.ids[i]), _caption(evidence, i))
            for i in placed(evidence.ids, ids)
        ]
    rows = {
        kind: list(cases)
        for kind, cases in groupby(choose(evidence, number), lambda case: case.kind)
    }
    return in_turn(dict(reversed(rows.items())), number)


def _errors(evidence: LabelEvidence) -> dict[str, list[tuple[int, int]]]:
    """Kind of error -> image and class, the surest first."""
    says, truth, probability = evidence.says, evidence.labels > 0, evidence.probability
    kinds = {"most confident false positives": (says & ~truth, probability)}
    if (
        not evidence.exclusive
    ):  # else every error is a false positive of one class and a false negative of another
        kinds["most confident false negatives"] = (~says & truth, 1 - probability)
    return {
        kind: [
            (i, c) for i, c in np.argwhere(wrong)[np.argsort(-sure[wrong], kind="stable")].tolist()
        ]
        for kind, (wrong, sure) in kinds.items()
    }


def _caption(evidence: LabelEvidence, i: int, channel: int | None = None) -> str:
    """The probability of one class, else of the likeliest, and what is true."""
    probability = evidence.probability[i]
    c = int(probability.argmax()) if channel is None else channel
    true = [name for name, label in zip(evidence.classes, evidence.labels[i], strict=True) if label]
    return f"p({evidence.classes[c]}) = {probability[c]:.3f}, truth: {', '.join(true) or 'none'}"


def picture(batch: Sample, i: int, side: int = SIDE) -> np.ndarray:
    """Image `i` of a batch as the network saw it, BGR, padding cut off, with so many pixels on its longest side."""
    pixels = (
        batch["image"][i][batch["content"][i].inside].expand(3, -1, -1).numpy().transpose(1, 2, 0)
    )
    return enlarge(np.ascontiguousarray(pixels[..., ::-1]), side=side)


def panes(
    batch: Sample, i: int, logits: Tensor, rule: Rule, side: int = SIDE
) -> dict[str, np.ndarray]:
    """The picture alone."""
    return {"image": picture(batch, i, side)}
