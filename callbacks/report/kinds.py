"""Parts of the report that differ between masks and labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from callbacks.report import label_cases, mask_cases, thresholds
from callbacks.report.image_table import label_columns, mask_columns
from callbacks.report.label_figures import label_figures
from callbacks.report.label_tables import label_tables
from callbacks.report.mask_confusion import confusion
from callbacks.report.mask_figures import mask_figures
from callbacks.report.mask_maps import maps_of
from callbacks.report.mask_panels import mask_panels
from callbacks.report.pooled import mask_tables


@dataclass(frozen=True)
class Kind:
    """The parts of a page that depend on the kind of evidence.

    Attributes:
        figures: Takes split -> evidence; returns title -> SVG.
        panels: Takes split -> evidence; returns title -> class -> small SVG, empty for one class.
        tables: Takes split -> evidence; returns what report.json holds besides scores.
        choose: Takes evidence of a split and a number; returns the cases that are shown.
        orders: Takes evidence of a split; returns name -> order of all its images, from which the
            cases are taken.
        few: Takes evidence of a split, a number and optional names; returns a few images of which
            more is shown.
        picture: Takes a batch, an index and a side in pixels; returns the BGR pixels of the image
            alone.
        panes: Takes a batch, an index, its logits, the rule and a side in pixels; returns title ->
            BGR pixels.
        maps: Takes a batch, an index, its logits, classes and a side in pixels; returns what
            overlays are drawn from, and its size.
        at_each_byte: Takes evidence and a class; yields its decisions at the 256 thresholds.
        start: Takes evidence and a class; returns the position of its slider at the rule.
        columns: Takes evidence; returns the columns of the table of all images.
        key: Takes the names of the classes; returns the chips that explain their colours.
        legend: Describes the panes, for a single class and for several.
        overlay: Describes the pane `overlay` alone, for a single class and for several.
        rule: Explains how the rule decides.
    """

    figures: Callable[[Any], dict[str, str]]
    panels: Callable[[Any], dict[str, dict[str, str]]]
    tables: Callable[[Any], dict[str, Any]]
    choose: Callable[..., Any]
    orders: Callable[..., Any]
    few: Callable[..., Any]
    picture: Callable[..., Any]
    panes: Callable[..., Any]
    maps: Callable[..., Any]
    at_each_byte: Callable[..., Any]
    start: Callable[..., thresholds.Start]
    columns: Callable[..., Any]
    key: Callable[[Any], Any]
    legend: tuple[str, str]
    overlay: tuple[str, str]
    rule: str


KINDS = {
    "mask": Kind(
        figures=mask_figures,
        panels=mask_panels,
        tables=lambda evidence: (
            mask_tables(evidence)
            | {"confusion": {split: confusion(seen) for split, seen in evidence.items()}}
        ),
        choose=mask_cases.choose,
        orders=mask_cases.orders,
        few=mask_cases.few,
        picture=mask_cases.picture,
        panes=mask_cases.panes,
        maps=maps_of,
        at_each_byte=thresholds.masks_at_each_byte,
        start=thresholds.mask_start,
        columns=mask_columns,
        key=mask_cases.key,
        legend=(
            (
                "Truth green, prediction orange. Best and worst are told among the images that show"
                " a lesion, as largest and smallest are by its area."
            ),
            (
                "Truth as outlines, prediction filled, a colour a class. The Dice of an image is"
                " the mean of the classes that it shows or is said to, by which best and worst are"
                " told among the images that show a lesion, as largest and smallest are by its"
                " area; beyond six classes the rest is counted."
            ),
        ),
        overlay=("truth green, prediction orange", "truth outlined, prediction filled"),
        rule=(
            "An image shows the class if at least min area of it reaches top; then the mask is"
            " drawn at bottom. Searched on val, frozen, applied to test."
        ),
    ),
    "label": Kind(
        figures=label_figures,
        panels=lambda evidence: {},
        tables=label_tables,
        choose=label_cases.choose,
        orders=label_cases.orders,
        few=label_cases.few,
        picture=label_cases.picture,
        panes=label_cases.panes,
        maps=lambda *of_image: ({}, (0, 0)),
        at_each_byte=thresholds.labels_at_each_byte,
        start=thresholds.label_start,
        columns=label_columns,
        key=lambda classes: (),
        legend=("As the network saw them. Errors are at the rule; the surest of them come first.",)
        * 2,
        overlay=("as the network saw it",) * 2,
        rule=(
            "An image shows the class if sigmoid(logit / temperature) reaches the threshold; of"
            " classes that exclude one another the most probable is said. Searched on val, frozen,"
            " applied to test."
        ),
    ),
}
