"""Parts of the report that differ between masks and labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluation import threshold_sweep
from evaluation.threshold_sweep import segmentation_tables
from reporting import classification, segmentation
from reporting.figures.classification import classification_figures
from reporting.figures.segmentation import segmentation_figures, segmentation_panels
from reporting.image_table import classification_columns, segmentation_columns
from reporting.overlays import encode_logit_maps
from reporting.tables import classification_tables, segmentation_confusion


@dataclass(frozen=True)
class TaskView:
    """The parts of a page that depend on the kind of evidence.

    Attributes:
        figures: Takes split -> evidence; returns title -> SVG.
        panels: Takes split -> evidence; returns title -> class -> small SVG, empty for one class.
        tables: Takes split -> evidence; returns what report.json holds besides scores.
        select_cases: Takes evidence of a split and a number; returns the cases that are shown.
        rankings: Takes evidence of a split; returns name -> order of all its images, from which the
            cases are taken.
        select_examples: Takes evidence of a split, a number and optional names; returns a few
            images of which more is shown.
        render_image: Takes a batch, an index and a side in pixels; returns the BGR pixels of the
            image alone.
        render_panes: Takes a batch, an index, its logits, the rule and a side in pixels; returns
            title -> BGR pixels.
        encode_logit_maps: Takes a batch, an index, its logits, classes and a side in pixels;
            returns what overlays are drawn from, and its size.
        at_all_thresholds: Takes evidence and a class; yields its decisions at the 256 thresholds.
        slider_start: Takes evidence and a class; returns the position of its slider at the rule.
        image_columns: Takes evidence; returns the columns of the table of all images.
        class_tags: Takes the names of the classes; returns the chips that explain their colours.
        legend: Describes the panes, for a single class and for several.
        overlay: Describes the pane `overlay` alone, for a single class and for several.
        rule: Explains how the rule decides.
    """

    figures: Callable[[Any], dict[str, str]]
    panels: Callable[[Any], dict[str, dict[str, str]]]
    tables: Callable[[Any], dict[str, Any]]
    select_cases: Callable[..., Any]
    rankings: Callable[..., Any]
    select_examples: Callable[..., Any]
    render_image: Callable[..., Any]
    render_panes: Callable[..., Any]
    encode_logit_maps: Callable[..., Any]
    at_all_thresholds: Callable[..., Any]
    slider_start: Callable[..., threshold_sweep.SliderStart]
    image_columns: Callable[..., Any]
    class_tags: Callable[[Any], Any]
    legend: tuple[str, str]
    overlay: tuple[str, str]
    rule: str


TASK_VIEWS = {
    "mask": TaskView(
        figures=segmentation_figures,
        panels=segmentation_panels,
        tables=lambda evidence: (
            segmentation_tables(evidence)
            | {
                "confusion": {
                    split: segmentation_confusion(seen) for split, seen in evidence.items()
                }
            }
        ),
        select_cases=segmentation.select_cases,
        rankings=segmentation.rankings,
        select_examples=segmentation.select_examples,
        render_image=segmentation.render_image,
        render_panes=segmentation.render_panes,
        encode_logit_maps=encode_logit_maps,
        at_all_thresholds=threshold_sweep.segmentation_at_thresholds,
        slider_start=threshold_sweep.segmentation_slider_start,
        image_columns=segmentation_columns,
        class_tags=segmentation.class_tags,
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
    "label": TaskView(
        figures=classification_figures,
        panels=lambda evidence: {},
        tables=classification_tables,
        select_cases=classification.select_cases,
        rankings=classification.rankings,
        select_examples=classification.select_examples,
        render_image=classification.render_image,
        render_panes=classification.render_panes,
        encode_logit_maps=lambda *of_image: ({}, (0, 0)),
        at_all_thresholds=threshold_sweep.classification_at_thresholds,
        slider_start=threshold_sweep.classification_slider_start,
        image_columns=classification_columns,
        class_tags=lambda classes: (),
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
