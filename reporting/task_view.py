"""Interface of the two modules that make the page of a segmentation or a classification."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evaluation.threshold_sweep import SliderStart
from reporting import classification, segmentation
from reporting.cases import SIDE, Case, ClassTag, Ranking

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.rule_modules import DecisionRule


class TaskView(Protocol):
    """Interface of `reporting/segmentation.py` and `reporting/classification.py`.

    Evidence and batches are of the kind that the module handles.

    Attributes:
        TASK: Name of the task in the heading of a page.
        LEGEND: Describes the panes, for a single class and for several.
        OVERLAY: Describes the pane `overlay` alone, for a single class and for several.
    """

    TASK: str
    LEGEND: tuple[str, str]
    OVERLAY: tuple[str, str]

    def explain_rule(self, evidence: Any) -> str:
        """Return sentences that explain how the rule decides."""

    def figures(self, evidence: Mapping[str, Any]) -> dict[str, str]:
        """Return title -> SVG, from split -> evidence."""

    def panels(self, evidence: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Return title -> class -> small SVG, empty for one class."""

    def tables(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of report.json besides scores."""

    def rankings(self, evidence: Any, seed: int = 0) -> dict[str, Ranking]:
        """Return name -> order of all images; cases are the first images of each order."""

    def select_cases(self, evidence: Any, number: int, seed: int = 0) -> list[Case]:
        """Return the cases of the page, `number` from each order."""

    def select_examples(
        self, evidence: Any, number: int, ids: Sequence[str] | None = None
    ) -> list[Case]:
        """Return `number` example images, or the named ones."""

    def render_image(self, batch: Any, i: int, side: int = SIDE) -> np.ndarray:
        """Return the BGR pixels of an image alone."""

    def render_panes(
        self, batch: Any, i: int, logits: "Tensor", rule: "DecisionRule", side: int = SIDE
    ) -> dict[str, np.ndarray]:
        """Return title -> BGR pixels."""

    def encode_logit_maps(
        self,
        batch: Any,
        i: int,
        logits: "Tensor",
        channels: Sequence[int],
        side: int,
        rule: "DecisionRule | None" = None,
    ) -> tuple[dict[int, str], tuple[int, int]]:
        """Return the encoded logit map of each class, and the size of the maps."""

    def at_all_thresholds(self, evidence: Any, channel: int) -> Iterator[Any]:
        """Yield the decisions of a class at the 256 thresholds."""

    def slider_start(self, evidence: Any, channel: int) -> SliderStart:
        """Return the position of a class's slider at the rule."""

    def image_columns(self, evidence: Any) -> list[dict[str, Any]]:
        """Return the columns of the table of all images."""

    def class_tags(self, classes: Sequence[str]) -> tuple[ClassTag, ...]:
        """Return the tags that explain the colors of the classes."""


MAX_NAMED_CLASSES = 3  # classes that a heading names; more are counted


def page_heading(kind: str, classes: Sequence[str], data: Mapping[str, Any]) -> str:
    """Return the heading of a page, which names task and data.

    An example is `Segmentation of brain MRI: tumor (brain_tumor, phantom data)`. Data sets without
    a kind of image, such as a table of the user's own, are named by their folder.

    Args:
        kind: `mask` or `label`.
        classes: Names of the classes.
        data: Description of the data, as `describe_data` gives it.
    """
    folder = data.get("name", Path(data.get("root", "")).name)
    images = data.get("image_kind", "")
    named = ", ".join(classes) if len(classes) <= MAX_NAMED_CLASSES else f"{len(classes)} classes"
    notes = [folder] * bool(folder and images) + ["phantom data"] * bool(data["phantom"])
    return f"{TASK_VIEWS[kind].TASK} of {images or folder or 'images'}: {named}" + (
        f" ({', '.join(notes)})" if notes else ""
    )


TASK_VIEWS: dict[str, TaskView] = {"mask": segmentation, "label": classification}
