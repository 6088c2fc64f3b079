"""Chooses segmented images for the page, and draws image, truth, prediction and overlay."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from callbacks.report.cases import SIDE, Case, Chip, Order, chosen, enlarge, in_turn, placed
from callbacks.report.overlay import colour_of, filled, outlined, outlined_one, tinted
from datamodules.sample import Sample
from lightning_modules.logit_byte import bin_probability, quantize
from lightning_modules.mask_decision import PixelCounts, SegmentationDecision, dice
from lightning_modules.mask_evidence import SegmentationEvidence
from lightning_modules.rule import DecisionRule

TRUTH = (70, 200, 60)  # BGR, of a single class
PREDICTION = (50, 130, 250)
CHIPS = 6  # of one image


def orders(evidence: SegmentationEvidence, seed: int = 0) -> dict[str, Order]:
    """Order images at random, by Dice (worst, best) and by lesion area (largest, smallest).

    In all but `random`, images with a lesion come first; without any there are no orders by area.
    """
    scores, lesion = _scores(_decided(evidence)), (evidence.truth[:, :, 1] > 0).any(1)
    area, some = (
        evidence.truth[:, :, 1].sum(1) / np.maximum(1, evidence.truth.sum((1, 2))),
        int(lesion.sum()),
    )
    found = {"random": Order(np.random.default_rng(seed).permutation(len(evidence)), len(evidence))}
    keys = {"worst": scores, "best": -scores} | (
        {"largest": -area, "smallest": area} if some else {}
    )
    return found | {
        kind: Order(np.lexsort((key, ~lesion)), some or len(evidence)) for kind, key in keys.items()
    }


def choose(evidence: SegmentationEvidence, number: int, seed: int = 0) -> list[Case]:
    """Choose `number` images of each order, no image twice."""
    return _cases(evidence, chosen(orders(evidence, seed), number))


def few(
    evidence: SegmentationEvidence, number: int, ids: Sequence[str] | None = None
) -> list[Case]:
    """Return the named images, or `number` of the best, worst and largest in turn."""
    if ids is not None:
        return _cases(evidence, [("asked for", i) for i in placed(evidence.ids, ids)])
    ranked = orders(evidence)
    rows = {
        kind: ranked[kind].images[:number].tolist()
        for kind in ("best", "worst", "largest")
        if kind in ranked
    }
    return in_turn(
        {kind: _cases(evidence, [(kind, i) for i in places]) for kind, places in rows.items()},
        number,
    )


def _decided(evidence: SegmentationEvidence) -> list[SegmentationDecision]:
    return [evidence.decided(c) for c in range(len(evidence.classes))]


def _scores(decided: list[SegmentationDecision]) -> np.ndarray:
    """Return each image's mean Dice over its true or predicted classes, as others would add a 1."""
    values = np.array([dice(d.pixels) for d in decided])
    there = np.array([d.positive | d.predicted for d in decided])
    return np.where(there.any(0), (values * there).sum(0) / np.maximum(1, there.sum(0)), 1.0)


def _cases(evidence: SegmentationEvidence, picked: Sequence[tuple[str, int]]) -> list[Case]:
    """Make the cases; a single class always keeps its map, several if true or predicted."""
    decided = _decided(evidence)
    scores, named = _scores(decided), len(decided) > 1
    found = []
    for kind, i in picked:
        there = tuple(
            c for c, d in enumerate(decided) if not named or d.positive[i] or d.predicted[i]
        )
        chips = _chips(evidence.classes, decided, i) if named else ()
        found.append(
            Case(kind, str(evidence.ids[i]), f"Dice {scores[i]:.4f}", chips=chips, channels=there)
        )
    return found


def _chips(classes: Sequence[str], decided: list[SegmentationDecision], i: int) -> tuple[Chip, ...]:
    """Return chips of true classes with Dice, then false alarms; beyond `CHIPS` a count."""
    there = [c for c, of_class in enumerate(decided) if of_class.positive[i]]
    false = [
        c
        for c, of_class in enumerate(decided)
        if of_class.predicted[i] and not of_class.positive[i]
    ]
    words = {
        c: f"{_dice_of(decided[c], i):.2f}" if decided[c].predicted[i] else "missed" for c in there
    } | dict.fromkeys(false, "false alarm")
    chips = [Chip(f"{classes[c]} {said}", colour_of(c)) for c, said in words.items()]
    return (*chips[:CHIPS], *_counted(len(there[CHIPS:]), len(false[max(0, CHIPS - len(there)) :])))


def _dice_of(decided: SegmentationDecision, i: int) -> float:
    return float(dice(PixelCounts(*(part[i] for part in decided.pixels))))


def _counted(there: int, false: int) -> tuple[Chip, ...]:
    """Return one chip without a colour that counts the classes without chips; empty for none."""
    words = [f"{there} true class{'es' * (there > 1)}"] * (there > 0) + [
        f"{false} false alarm{'s' * (false > 1)}"
    ] * (false > 0)
    return (Chip(f"+{', '.join(words)}", ""),) if words else ()


def key(classes: Sequence[str]) -> tuple[Chip, ...]:
    """Return the colours of several classes; the legend explains a single one."""
    return (
        tuple(Chip(name, colour_of(c)) for c, name in enumerate(classes))
        if len(classes) > 1
        else ()
    )


def picture(batch: Sample, i: int, side: int = SIDE) -> np.ndarray:
    """Return image `i` in grey: BGR, no padding, longest side `side` pixels."""
    grey = batch["image"][i][batch["content"][i].inside]
    return enlarge(cv2.cvtColor(grey.float().mean(0).byte().numpy(), cv2.COLOR_GRAY2BGR), side=side)


def panes(
    batch: Sample, i: int, logits: Tensor, rule: DecisionRule, side: int = SIDE
) -> dict[str, np.ndarray]:
    """Return the panes of image `i`: BGR, with padding cut off as for the evidence.

    Args:
        batch: Holds its image and mask.
        i: Index in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        rule: The mask rule in force.
        side: Longest side of a pane in pixels.
    """
    inside = batch["content"][i].inside
    grey = picture(batch, i, side)
    predicted = rule(logits[inside])[0].numpy().astype(np.uint8)
    truth, said = (
        [enlarge(mask, cv2.INTER_NEAREST, side) for mask in masks]
        for masks in (batch["mask"][i][inside].numpy(), predicted)
    )
    if len(said) > 1:
        return {
            "image": grey,
            "truth": outlined(grey, truth),
            "prediction": filled(grey, said),
            "overlay": outlined(filled(grey, said), truth),
        }
    heat = (bin_probability(quantize(logits[inside])[0, 0].numpy()) * 255).astype(np.uint8)
    both = tinted(tinted(grey, truth[0], TRUTH), said[0], PREDICTION)
    return {
        "image": grey,
        "truth": outlined_one(grey, truth[0], TRUTH, width=2),
        "prediction": outlined_one(
            cv2.applyColorMap(enlarge(heat, side=side), cv2.COLORMAP_INFERNO),
            said[0],
            (255, 255, 255),
        ),
        "overlay": outlined_one(outlined_one(both, truth[0], TRUTH), said[0], PREDICTION),
    }
