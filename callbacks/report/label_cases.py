"""Which classified images the page shows: a random draw, and the errors that the network was surest of."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from torch import Tensor

from callbacks.report.cases import SIDE, Case, enlarge, in_turn
from datamodules.sample import Sample
from lightning_modules.label_evidence import LabelEvidence
from lightning_modules.rule import Rule


def choose(evidence: LabelEvidence, number: int, seed: int = 0) -> list[Case]:
    """`number` random images, and as many of the most confident errors of either kind."""
    random = np.random.default_rng(seed).permutation(len(evidence))[:number]
    cases = [Case("random", str(evidence.ids[i]), _caption(evidence, i)) for i in random]
    says, truth, probability = evidence.says, evidence.labels > 0, evidence.probability
    kinds = {"most confident false positives": (says & ~truth, probability)}
    if not evidence.exclusive:  # else every error is a false positive of one class and a false negative of another
        kinds["most confident false negatives"] = (~says & truth, 1 - probability)
    for kind, (wrong, sure) in kinds.items():
        places = np.argwhere(wrong)
        ranked = places[np.argsort(-sure[wrong], kind="stable")][:number]
        cases += [Case(kind, str(evidence.ids[i]), _caption(evidence, i, c)) for i, c in ranked.tolist()]
    return cases


def few(evidence: LabelEvidence, number: int, ids: Sequence[str] | None = None) -> list[Case]:
    """The named images, or so many of the surest errors of either kind and of random ones, in turn."""
    if ids is not None:
        places = {id: i for i, id in enumerate(evidence.ids.tolist())}
        return [Case("asked for", id, _caption(evidence, places[id])) for id in ids if id in places]
    rows = {kind: list(cases) for kind, cases in groupby(choose(evidence, number), lambda case: case.kind)}
    return in_turn(dict(reversed(rows.items())), number)


def _caption(evidence: LabelEvidence, i: int, channel: int | None = None) -> str:
    """The probability of one class, else of the likeliest, and what is true."""
    probability = evidence.probability[i]
    c = int(probability.argmax()) if channel is None else channel
    true = [name for name, label in zip(evidence.classes, evidence.labels[i], strict=True) if label]
    return f"p({evidence.classes[c]}) = {probability[c]:.3f}, truth: {', '.join(true) or 'none'}"


def panes(batch: Sample, i: int, logits: Tensor, rule: Rule, side: int = SIDE) -> dict[str, np.ndarray]:
    """The picture as the network saw it, BGR, padding cut off."""
    top, left, height, width = batch["content"][i]
    pixels = batch["image"][i][:, top : top + height, left : left + width].expand(3, -1, -1).numpy().transpose(1, 2, 0)
    return {"image": enlarge(np.ascontiguousarray(pixels[..., ::-1]), side=side)}
