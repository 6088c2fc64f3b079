"""Which segmented images the page shows, and what they look like: image, truth, prediction, overlay."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from torch import Tensor

from callbacks.report.cases import SIDE, Case, Chip, enlarge, in_turn
from callbacks.report.overlay import colour_of, filled, outlined, outlined_one, tinted
from datamodules.sample import Sample
from lightning_modules.logit_byte import probability_of, to_byte
from lightning_modules.mask_decision import DecidedMask, dice
from lightning_modules.mask_evidence import MaskEvidence
from lightning_modules.rule import Rule

TRUTH = (70, 200, 60)  # BGR, of a single class
PREDICTION = (50, 130, 250)
CHIPS = 6  # of one image


def choose(evidence: MaskEvidence, number: int, seed: int = 0) -> list[Case]:
    """`number` random, best and worst images; best and worst only among those with a lesion, where there are any."""
    decided = _decided(evidence)
    ranked = _from_worst(decided)
    random = np.random.default_rng(seed).permutation(len(evidence))[:number]
    rows = {"random": random, "worst": ranked[:number], "best": ranked[::-1][:number]}
    return [case for kind, places in rows.items() for case in _cases(evidence, decided, kind, places)]


def few(evidence: MaskEvidence, number: int, ids: Sequence[str] | None = None) -> list[Case]:
    """The named images, or so many of the best, the worst and those with the largest lesions, in turn."""
    decided = _decided(evidence)
    if ids is not None:
        places = {id: i for i, id in enumerate(evidence.ids.tolist())}
        return _cases(evidence, decided, "asked for", [places[id] for id in ids if id in places])
    ranked, area = _from_worst(decided), evidence.truth[:, :, 1].sum(1) / np.maximum(1, evidence.truth.sum((1, 2)))
    rows = {"best": ranked[::-1], "worst": ranked, "largest": np.argsort(-area, kind="stable")}
    return in_turn({kind: _cases(evidence, decided, kind, places[:number]) for kind, places in rows.items()}, number)


def _decided(evidence: MaskEvidence) -> list[DecidedMask]:
    return [evidence.decided(c) for c in range(len(evidence.classes))]


def _scores(decided: list[DecidedMask]) -> np.ndarray:
    """Dice of each image, the mean over the classes that it shows or is said to show: others would all add a 1."""
    values = np.array([dice(d.pixels) for d in decided])
    there = np.array([d.positive | d.says for d in decided])
    return np.where(there.any(0), (values * there).sum(0) / np.maximum(1, there.sum(0)), 1.0)


def _from_worst(decided: list[DecidedMask]) -> np.ndarray:
    """The images with a lesion, where there are any, from the worst to the best."""
    scores, lesion = _scores(decided), np.flatnonzero(np.any([d.positive for d in decided], axis=0))
    among = lesion if len(lesion) else np.arange(len(scores))
    return among[np.argsort(scores[among], kind="stable")]


def _cases(evidence: MaskEvidence, decided: list[DecidedMask], kind: str, places: Iterable[int]) -> list[Case]:
    scores = _scores(decided)
    return [Case(kind, str(evidence.ids[i]), f"Dice {scores[i]:.4f}", chips=_chips(evidence.classes, decided, i)) for i in places]


def _chips(classes: Sequence[str], decided: list[DecidedMask], i: int) -> tuple[Chip, ...]:
    """Of several classes those that the image shows, each with its Dice, then false alarms; beyond a few they are only counted."""
    if len(classes) == 1:
        return ()
    there = [c for c, of_class in enumerate(decided) if of_class.positive[i]]
    false = [c for c, of_class in enumerate(decided) if of_class.says[i] and not of_class.positive[i]]
    words = {c: f"{dice(decided[c].pixels)[i]:.2f}" if decided[c].says[i] else "missed" for c in there} | dict.fromkeys(false, "false alarm")
    chips = [Chip(f"{classes[c]} {said}", colour_of(c)) for c, said in words.items()]
    return (*chips[:CHIPS], *_counted(len(there[CHIPS:]), len(false[max(0, CHIPS - len(there)) :])))


def _counted(there: int, false: int) -> tuple[Chip, ...]:
    """One chip without a colour for the classes that have none of their own."""
    words = [f"{there} true class{'es' * (there > 1)}"] * (there > 0) + [f"{false} false alarm{'s' * (false > 1)}"] * (false > 0)
    return (Chip(f"+{', '.join(words)}", ""),) if words else ()


def key(classes: Sequence[str]) -> tuple[Chip, ...]:
    """The colours of several classes; a single one is told by the legend."""
    return tuple(Chip(name, colour_of(c)) for c, name in enumerate(classes)) if len(classes) > 1 else ()


def panes(batch: Sample, i: int, logits: Tensor, rule: Rule, side: int = SIDE) -> dict[str, np.ndarray]:
    """The panes of image `i` of a batch, BGR, padding cut off as for the evidence.

    Args:
        batch: Holds its image and mask.
        i: Where in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        rule: The mask rule in force.
        side: Longest side of a pane in pixels.
    """
    top, left, height, width = batch["content"][i]
    inside = (..., slice(top, top + height), slice(left, left + width))
    grey = cv2.cvtColor(batch["image"][i].float().mean(0)[inside].byte().numpy(), cv2.COLOR_GRAY2BGR)
    grey = enlarge(grey, side=side)
    predicted = rule(logits[inside])[0].numpy().astype(np.uint8)
    truth, said = ([enlarge(mask, cv2.INTER_NEAREST, side) for mask in masks] for masks in (batch["mask"][i][inside].numpy(), predicted))
    if len(said) > 1:
        return {"image": grey, "truth": outlined(grey, truth), "prediction": filled(grey, said), "overlay": outlined(filled(grey, said), truth)}
    heat = (probability_of(to_byte(logits[inside])[0, 0].numpy()) * 255).astype(np.uint8)
    both = tinted(tinted(grey, truth[0], TRUTH), said[0], PREDICTION)
    return {
        "image": grey,
        "truth": outlined_one(grey, truth[0], TRUTH, width=2),
        "prediction": outlined_one(cv2.applyColorMap(enlarge(heat, side=side), cv2.COLORMAP_INFERNO), said[0], (255, 255, 255)),
        "overlay": outlined_one(outlined_one(both, truth[0], TRUTH), said[0], PREDICTION),
    }
