"""What the page does differently for masks and for labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from callbacks.report import label_cases, mask_cases
from callbacks.report.label_figures import label_figures
from callbacks.report.label_tables import label_tables
from callbacks.report.mask_figures import mask_figures


@dataclass(frozen=True)
class Kind:
    """The parts of a page that depend on the kind of evidence.

    Attributes:
        figures: Split -> evidence, to title -> SVG.
        tables: Split -> evidence, to what report.json holds besides scores.
        choose: Evidence of a split and a number, to the cases that are shown.
        draw: A case, its batch, its place there, its logits and the rule, to the case with panes.
        legend: What the panes are.
        rule: How the rule decides.
    """

    figures: Callable[[Any], dict[str, str]]
    tables: Callable[[Any], dict[str, Any]]
    choose: Callable[..., Any]
    draw: Callable[..., Any]
    legend: str
    rule: str


KINDS = {
    "mask": Kind(
        mask_figures,
        lambda evidence: {},
        mask_cases.choose,
        mask_cases.draw,
        "From left: image, truth, probability with the predicted outline, overlay (truth green, prediction orange). "
        "Best and worst are taken from the images that show a lesion.",
        "An image shows the class if at least min area of it reaches top; then the mask is drawn at bottom. "
        "Searched on val, frozen, applied to test.",
    ),
    "label": Kind(
        label_figures,
        label_tables,
        label_cases.choose,
        label_cases.draw,
        "As the network saw them. Errors are at the rule; the surest of them come first.",
        "An image shows the class if sigmoid(logit / temperature) reaches the threshold; of classes that exclude one another the most probable "
        "is said. Searched on val, frozen, applied to test.",
    ),
}
