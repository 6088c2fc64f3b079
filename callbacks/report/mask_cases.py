"""Which segmented images the page shows, and what they look like: image, truth, prediction, overlay."""

from dataclasses import replace

import cv2
import numpy as np
from torch import Tensor

from callbacks.report.cases import Case, data_url, enlarge
from datamodules.sample import Sample
from lightning_modules.logit_byte import probability_of, to_byte
from lightning_modules.mask_decision import dice
from lightning_modules.mask_evidence import MaskEvidence
from lightning_modules.rule import Rule

TRUTH = (70, 200, 60)  # BGR
PREDICTION = (50, 130, 250)


def choose(evidence: MaskEvidence, number: int, seed: int = 0) -> list[Case]:
    """`number` random, best and worst images; best and worst only among those with a lesion, where there are any."""
    decided = [evidence.decided(c) for c in range(len(evidence.classes))]
    scores = np.mean([dice(d.pixels) for d in decided], axis=0)
    lesion = np.flatnonzero(np.any([d.positive for d in decided], axis=0))
    ranked = (lesion if len(lesion) else np.arange(len(scores)))[np.argsort(scores[lesion] if len(lesion) else scores, kind="stable")]
    random = np.random.default_rng(seed).permutation(len(scores))[:number]
    rows = {"random": random, "worst": ranked[:number], "best": ranked[::-1][:number]}
    return [Case(kind, str(evidence.ids[i]), f"Dice {scores[i]:.4f}", {}) for kind, chosen in rows.items() for i in chosen]


def draw(case: Case, batch: Sample, i: int, logits: Tensor, rule: Rule) -> Case:
    """The four panes of image `i` of a batch, padding cut off as for the evidence; of several classes the union is drawn.

    Args:
        case: What to draw.
        batch: Holds its image and mask.
        i: Where in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        rule: The mask rule in force.
    """
    top, left, height, width = batch["content"][i]
    inside = (..., slice(top, top + height), slice(left, left + width))
    grey = cv2.cvtColor(batch["image"][i, 0][inside].numpy(), cv2.COLOR_GRAY2BGR)
    truth = batch["mask"][i].amax(0)[inside].numpy()
    predicted = rule(logits[inside])[0].any(0).numpy().astype(np.uint8)
    heat = (probability_of(to_byte(logits[inside])[0].amax(0).numpy()) * 255).astype(np.uint8)
    grey, heat = enlarge(grey), enlarge(heat)
    truth, predicted = (enlarge(pixels, cv2.INTER_NEAREST) for pixels in (truth, predicted))
    panes = {
        "image": grey,
        "truth": _outline(grey, truth, TRUTH, width=2),
        "prediction": _outline(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), predicted, (255, 255, 255)),
        "overlay": _outline(_outline(_tint(_tint(grey, truth, TRUTH), predicted, PREDICTION), truth, TRUTH), predicted, PREDICTION),
    }
    return replace(case, panes={title: data_url(pixels) for title, pixels in panes.items()})


def _tint(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    tinted = picture.copy()
    inside = mask > 0
    tinted[inside] = (0.72 * tinted[inside] + 0.28 * np.array(colour)).astype(np.uint8)
    return tinted


def _outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], width: int = 1) -> np.ndarray:
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture.copy(), contours, -1, colour, width, cv2.LINE_AA)
