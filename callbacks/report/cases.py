"""Which images the page shows, and what they look like: image, truth, prediction, overlay."""

import base64
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch import Tensor

from datamodules.sample import Sample
from lightning_modules.decision import decide, dice
from lightning_modules.evidence import Evidence
from lightning_modules.logit_byte import probability_of, to_byte
from lightning_modules.mask_rule import MaskRule

TRUTH = (70, 200, 60)  # BGR
PREDICTION = (50, 130, 250)
SIDE = 224  # pixels of one pane


@dataclass(frozen=True)
class Case:
    """One image of the page.

    Attributes:
        kind: `random`, `best` or `worst`.
        id: The image.
        dice: Its Dice, mean over classes.
        panes: Title -> data URL.
    """

    kind: str
    id: str
    dice: float
    panes: dict[str, str]


def choose(evidence: Evidence, number: int, seed: int = 0) -> list[Case]:
    """`number` random, best and worst images; best and worst only among those with a lesion, where there are any."""
    decided = [decide(evidence, c) for c in range(len(evidence.classes))]
    scores = np.mean([dice(d.pixels) for d in decided], axis=0)
    lesion = np.flatnonzero(np.any([d.lesion for d in decided], axis=0))
    ranked = (lesion if len(lesion) else np.arange(len(scores)))[np.argsort(scores[lesion] if len(lesion) else scores, kind="stable")]
    random = np.random.default_rng(seed).permutation(len(scores))[:number]
    rows = {"random": random, "worst": ranked[:number], "best": ranked[::-1][:number]}
    return [Case(kind, str(evidence.ids[i]), float(scores[i]), {}) for kind, chosen in rows.items() for i in chosen]


def draw(case: Case, batch: Sample, i: int, logits: Tensor, rule: MaskRule) -> Case:
    """The four panes of image `i` of a batch, padding cut off as for the evidence; of several classes the union is drawn.

    Args:
        case: What to draw.
        batch: Holds its image and mask.
        i: Where in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        rule: The rule in force.
    """
    top, left, height, width = batch["content"][i]
    inside = (..., slice(top, top + height), slice(left, left + width))
    grey = cv2.cvtColor(batch["image"][i, 0][inside].numpy(), cv2.COLOR_GRAY2BGR)
    truth = batch["mask"][i].amax(0)[inside].numpy()
    predicted = rule(logits[inside])[0].any(0).numpy().astype(np.uint8)
    heat = (probability_of(to_byte(logits[inside])[0].amax(0).numpy()) * 255).astype(np.uint8)
    scale = SIDE / max(height, width)
    grey, heat = (_enlarge(pixels, scale, cv2.INTER_LINEAR) for pixels in (grey, heat))
    truth, predicted = (_enlarge(pixels, scale, cv2.INTER_NEAREST) for pixels in (truth, predicted))
    panes = {
        "image": grey,
        "truth": _outline(grey, truth, TRUTH, width=2),
        "prediction": _outline(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), predicted, (255, 255, 255)),
        "overlay": _outline(_outline(_tint(_tint(grey, truth, TRUTH), predicted, PREDICTION), truth, TRUTH), predicted, PREDICTION),
    }
    return replace(case, panes={title: data_url(pixels) for title, pixels in panes.items()})


def _enlarge(pixels: np.ndarray, scale: float, mode: int) -> np.ndarray:
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=mode if scale > 1 else cv2.INTER_AREA)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    tinted = picture.copy()
    inside = mask > 0
    tinted[inside] = (0.72 * tinted[inside] + 0.28 * np.array(colour)).astype(np.uint8)
    return tinted


def _outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], width: int = 1) -> np.ndarray:
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture.copy(), contours, -1, colour, width, cv2.LINE_AA)


def data_url(pixels: np.ndarray) -> str:
    """BGR pixels as a WebP data URL."""
    done, encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 88])
    if not done:
        raise RuntimeError("OpenCV could not encode a picture as WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
