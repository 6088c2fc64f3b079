"""Page of predictions, predictions.html: what was predicted, and pictures to check it by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from datamodules.formats.atomic_write import atomic_write
from reporting.cases import data_url
from reporting.figures.style import INK, PALETTE, figure
from reporting.overlays import class_color
from reporting.relative_paths import page_folders
from reporting.rendering import render

PAGE_FILE = "predictions.html"
MAX_LISTED = 200  # images in the table of the page; the CSV has all
HISTOGRAM_BINS = 40


@dataclass(frozen=True, kw_only=True)
class PredictedRow:
    """Prediction of one image, without its pixels.

    Attributes:
        id: Name of the image.
        probability: Probability that the image shows each class, by its name.
        positive: True for each class that the image shows.
        area: Pixels of the mask of each class; empty for labels.
        area_mm2: The same in mm^2; None if the pixel spacing is not known.
        components: Number of connected components of all masks.
        margin: Smallest difference of a class's probability from its threshold; of exclusive
            labels that of the two highest probabilities. The decision is the less certain the
            closer it is to 0.
    """

    id: str
    probability: Mapping[str, float]
    positive: Mapping[str, bool]
    area: Mapping[str, int]
    area_mm2: Mapping[str, float] | None
    components: int
    margin: float

    @property
    def is_positive(self) -> bool:
        """True if the image shows any class."""
        return any(self.positive.values())

    @property
    def highest(self) -> float:
        """The highest probability of any class."""
        return max(self.probability.values())


@dataclass(frozen=True, kw_only=True)
class PredictionPage:
    """Content of the page.

    Attributes:
        title: Title of the run.
        heading: Task and data.
        phantom: True if the images are phantoms.
        facts: Heading -> sentence, about the images, the network and the rule.
        classes: Names of the classes.
        is_mask: True if the network predicts masks.
        thresholds: Threshold of the probability of an image for each class; None if the rule has
            none.
        missing: Name of each file without a prediction -> reason.
    """

    title: str
    heading: str
    phantom: bool
    facts: Mapping[str, str]
    classes: Sequence[str]
    is_mask: bool
    thresholds: Mapping[str, float | None]
    missing: Mapping[str, str]


def write_prediction_page(
    page: PredictionPage,
    rows: Sequence[PredictedRow],
    draw: Callable[[PredictedRow], np.ndarray],
    pictures: int,
    folder: Path,
) -> Path:
    """Write predictions.html.

    Args:
        page: Content beside the images.
        rows: All predictions.
        draw: Function that returns the picture of an image with its masks, BGR `H x W x 3`.
        pictures: Number of pictures of each kind; 0 for none.
        folder: Folder of the predictions.
    """
    drawn: dict[str, str] = {}
    sections = {
        why: [_picture(row, drawn, draw) for row in chosen]
        for why, chosen in choose_images(rows, pictures, page.is_mask).items()
    }
    listed = sorted(rows, key=lambda row: (-row.highest, row.id))[:MAX_LISTED]
    html = render(
        "predictions.html",
        page_folders(None, folder),
        title=page.title,
        heading=page.heading,
        phantom=page.phantom,
        page=page,
        rows=listed,
        total=len(rows),
        summary=summarize(rows, page.classes),
        sections=sections,
        figures={
            name: figure(
                partial(_draw_histogram, rows=rows, name=name, threshold=page.thresholds[name]),
                legend=False,
            )
            for name in page.classes
        },
        classes=[
            {"name": name, "color": class_color(number)} for number, name in enumerate(page.classes)
        ],
    )
    path = folder / PAGE_FILE
    atomic_write(path, html.encode())
    return path


def summarize(rows: Sequence[PredictedRow], classes: Sequence[str]) -> dict[str, str]:
    """Return how many images show each class, class -> sentence."""
    found = {}
    for name in classes:
        shown = [row for row in rows if row.positive[name]]
        sentence = f"{len(shown):,} of {len(rows):,} images ({len(shown) / max(1, len(rows)):.1%})"
        areas = [row.area[name] for row in shown if name in row.area]
        if areas:
            sentence += f"; median area {np.median(areas):,.0f} px"
            physical = [row.area_mm2[name] for row in shown if row.area_mm2 is not None]
            if len(physical) == len(shown):
                sentence += f" ({np.median(physical):,.0f} mm²)"
            elif physical:
                sentence += (
                    f"; {np.median(physical):,.0f} mm² in the {len(physical):,} images whose pixel"
                    " spacing is known"
                )
        found[name] = sentence
    return found


def choose_images(
    rows: Sequence[PredictedRow], number: int, is_mask: bool
) -> dict[str, list[PredictedRow]]:
    """Choose the images of the page: reason -> images, none of them twice.

    Args:
        rows: All predictions.
        number: Number of images of each kind.
        is_mask: True if the network predicts masks.
    """
    by_margin = sorted(rows, key=lambda row: (abs(row.margin), row.id))
    shown = sorted((row for row in rows if row.is_positive), key=lambda row: -row.highest)
    largest = sorted(shown, key=lambda row: -sum(row.area.values()))
    random = np.random.default_rng(0).permutation(len(rows)).tolist()
    kinds = {
        "least certain": by_margin,
        "highest probability": shown,
        **({"largest masks": largest} if is_mask else {}),
        "random images": [rows[place] for place in random],
    }
    seen: set[str] = set()
    found: dict[str, list[PredictedRow]] = {}
    for why, ordered in kinds.items():
        kept = [row for row in ordered if row.id not in seen][:number]
        seen |= {row.id for row in kept}
        if kept:
            found[why] = kept
    return found


def _picture(
    row: PredictedRow, drawn: dict[str, str], draw: Callable[[PredictedRow], np.ndarray]
) -> dict[str, object]:
    if row.id not in drawn:
        drawn[row.id] = data_url(draw(row), "jpeg")
    return {"url": drawn[row.id], "row": row}


def _draw_histogram(
    axes: Axes, rows: Sequence[PredictedRow], name: str, threshold: float | None
) -> None:
    """Draw how often each probability of a class was predicted, with the threshold."""
    values = [row.probability[name] for row in rows]
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1).tolist()
    axes.hist(values, edges, color=PALETTE[0])
    axes.set(xlabel=f"probability of {name} in an image", ylabel="images", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1)
        axes.set_title(f"dashed: threshold {threshold:.3f}", fontsize=9)
