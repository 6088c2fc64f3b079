"""What the page does differently for masks and for labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from callbacks.report import label_cases, mask_cases
from callbacks.report.label_figures import label_figures
from callbacks.report.label_tables import label_tables
from callbacks.report.mask_figures import mask_figures
from callbacks.report.mask_panels import mask_panels
from callbacks.report.pooled import mask_tables


@dataclass(frozen=True)
class Kind:
    """The parts of a page that depend on the kind of evidence.

    Attributes:
        figures: Split -> evidence, to title -> SVG.
        panels: Likewise, to title -> class -> small SVG, where there are several classes.
        tables: Split -> evidence, to what report.json holds besides scores.
        choose: Evidence of a split and a number, to the cases that are shown.
        few: Evidence of a split, a number and perhaps names, to a few images of which more is shown.
        panes: A batch, a place in it, its logits, the rule and a side in pixels, to title -> BGR pixels.
        key: The names of the classes, to the chips that tell their colours.
        legend: What the panes are, of a single class and of several.
        overlay: The same of the pane `overlay` alone.
        rule: How the rule decides.
    """

    figures: Callable[[Any], dict[str, str]]
    panels: Callable[[Any], dict[str, dict[str, str]]]
    tables: Callable[[Any], dict[str, Any]]
    choose: Callable[..., Any]
    few: Callable[..., Any]
    panes: Callable[..., Any]
    key: Callable[[Any], Any]
    legend: tuple[str, str]
    overlay: tuple[str, str]
    rule: str


KINDS = {
    "mask": Kind(
        mask_figures,
        mask_panels,
        mask_tables,
        mask_cases.choose,
        mask_cases.few,
        mask_cases.panes,
        mask_cases.key,
        (
            "From left: image, truth, probability with the predicted outline, overlay (truth green, prediction orange). "
            "Best and worst are taken from the images that show a lesion.",
            "From left: image, truth as outlines, prediction filled, both. Below: the mean Dice of the classes that an image shows or is said to, "
            "by which best and worst are told among the images that show a lesion, and the Dice of each; beyond six classes the rest is counted.",
        ),
        ("truth green, prediction orange", "truth outlined, prediction filled"),
        "An image shows the class if at least min area of it reaches top; then the mask is drawn at bottom. "
        "Searched on val, frozen, applied to test.",
    ),
    "label": Kind(
        label_figures,
        lambda evidence: {},
        label_tables,
        label_cases.choose,
        label_cases.few,
        label_cases.panes,
        lambda classes: (),
        ("As the network saw them. Errors are at the rule; the surest of them come first.",) * 2,
        ("as the network saw it",) * 2,
        "An image shows the class if sigmoid(logit / temperature) reaches the threshold; of classes that exclude one another the most probable "
        "is said. Searched on val, frozen, applied to test.",
    ),
}
