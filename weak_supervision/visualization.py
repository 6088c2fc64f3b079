"""Images of pseudo labels and the localization section of the report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.base import ManifestDataModule
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.rle import decode_rle
from evaluation.localization import GroundTruth, froc_score_name
from reporting.cases import Case, apply_gamma, data_url, display_gamma, enlarge
from reporting.overlays import fill_mask, outline_mask
from reporting.sections import Column, Section, Table
from reporting.segmentation import PREDICTION_COLOR, TRUTH_COLOR
from reporting.tables import format_interval, format_number
from weak_supervision.cam import ClassActivationMaps
from weak_supervision.localization_scorer import LocalizationReport
from weak_supervision.pipeline import ImageLookup, PseudoLabel
from weak_supervision.quality import rejection_funnel


class PerSplitLimit:
    """Limit on the number of images taken from each split.

    Args:
        limit: Number of images; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit, self._taken = limit, Counter[str]()

    def reset(self) -> None:
        """Reset the counts."""
        self._taken.clear()

    def take(self, split: str) -> bool:
        """Return True, and count an image as taken, if the split has not reached its limit."""
        if self.limit is not None and self._taken[split] >= self.limit:
            return False
        self._taken[split] += 1
        return True


REJECTED_COLOR, FALSE_POSITIVE_COLOR = (150, 150, 150), (230, 120, 200)
MIN_OVERLAY_SIDE = 512  # smallest longer side of an overlay in pixels
EXAMPLES_PER_KIND, EXAMPLE_SIDE = (
    3,
    420,
)  # images of each kind on the page, and their longest side in pixels
EXAMPLE_KINDS = (
    "abnormal, above the threshold",
    "normal, above the threshold",
    "unknown, above the threshold",
)


class OverlayWriter:
    """Writer of heat maps, overlays and masks, which keeps some examples for the page.

    Files are `heat/*.npy` (float32 `h x w` on the layer's grid), `overlays/*.png` and
    `masks/*.png`.

    Args:
        folder: Output folder.
        heat_maps: Class activation maps, which upsample heat maps.
        overlays: Limit on the overlays of each split.
    """

    def __init__(
        self, folder: Path, heat_maps: ClassActivationMaps, overlays: PerSplitLimit
    ) -> None:
        self.folder, self.heat_maps, self.overlays = folder, heat_maps, overlays
        self.examples: list[Case] = []

    def reset(self, data: ManifestDataModule, write_files: bool) -> None:
        """Set the file names, create the folders, and clear earlier examples.

        File names contain complete ids, so that images of one name in several folders never
        collide.

        Args:
            data: Prepared data.
            write_files: False writes no files.
        """
        ids = data.table.rows["id"].tolist()
        self._names, self._write_files = (
            dict(zip(ids, safe_file_names(ids), strict=True)),
            write_files,
        )
        self.overlays.reset()
        self.examples = []
        for part in ("heat", "overlays", "masks") if write_files else ():
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def save(
        self, pseudo_label: PseudoLabel, heat: np.ndarray, image: np.ndarray, lookup: ImageLookup
    ) -> None:
        """Save the files of one image above the threshold.

        Args:
            pseudo_label: Result of the pipeline.
            heat: float32 `h x w`.
            image: uint8 `H x W` at its own size.
            lookup: Lookup of its lesions, which are read only if an overlay is rendered.
        """
        name, split = self._names[pseudo_label.info.id], pseudo_label.info.split
        kind = EXAMPLE_KINDS[2 if pseudo_label.info.label is None else 1 - pseudo_label.info.label]
        shows = (
            split == "test" and sum(case.kind == kind for case in self.examples) < EXAMPLES_PER_KIND
        )
        draws = self._write_files and self.overlays.take(split)
        panes = {}
        if shows or draws:
            panes = render_panes(
                pseudo_label,
                self.heat_maps.upsample(heat, pseudo_label.info.letterbox.canvas),
                image,
                lookup.ground_truth(pseudo_label.info.id),
            )
        if self._write_files:
            np.save(self.folder / "heat" / f"{name}.npy", heat)
            if pseudo_label.mask is not None:
                cv2.imwrite(
                    str(self.folder / "masks" / f"{name}.png"),
                    decode_rle([pseudo_label.mask], *image.shape) * 255,
                )
        if draws:
            cv2.imwrite(
                str(self.folder / "overlays" / f"{name}.png"),
                np.concatenate(list(panes.values()), axis=1),
            )
        if shows:
            caption = (
                f"p = {pseudo_label.probability:.3f}, {len(pseudo_label.proposals)} boxes,"
                f" {pseudo_label.n_accepted} masks kept"
            )
            self.examples.append(
                Case(
                    kind,
                    pseudo_label.info.id,
                    caption,
                    {
                        title: data_url(enlarge(pane, side=EXAMPLE_SIDE))
                        for title, pane in panes.items()
                    },
                    gamma=display_gamma(image),
                )
            )


def render_panes(
    pseudo_label: PseudoLabel, heat: np.ndarray, image: np.ndarray, truth: GroundTruth
) -> dict[str, np.ndarray]:
    """Render BGR panes: image with true boxes, heat map over the image, boxes with masks.

    The result maps titles to panes, which are enlarged if the image is small. A dark image is shown
    with the display gamma.
    """
    box = pseudo_label.info.letterbox
    factor = max(1, -(-MIN_OVERLAY_SIDE // max(image.shape)))

    def large(pixels: np.ndarray) -> np.ndarray:
        """Enlarge pixels without interpolation."""
        return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)

    gray = cv2.cvtColor(large(apply_gamma(image, display_gamma(image))), cv2.COLOR_GRAY2BGR)
    warm = np.clip(box.back(heat), 0, 1)
    colors = cv2.applyColorMap(large((warm * 255).astype(np.uint8)), cv2.COLORMAP_INFERNO)
    true = draw_boxes(gray, () if truth.lesions is None else truth.lesions, TRUTH_COLOR, factor)
    canvas = gray
    for i, one in enumerate(
        pseudo_label.boxes
    ):  # masks of an image that is known to be normal are not shown
        color = (
            FALSE_POSITIVE_COLOR
            if not pseudo_label.mask_checks
            else PREDICTION_COLOR
            if pseudo_label.mask_checks[i].reason is None
            else REJECTED_COLOR
        )
        canvas = draw_boxes(canvas, [one], color, factor)
    if pseudo_label.mask is not None:
        mask = large(decode_rle([pseudo_label.mask], *image.shape)[..., 0])
        canvas = outline_mask(fill_mask(canvas, mask, PREDICTION_COLOR), mask, PREDICTION_COLOR)
    if truth.mask is not None:
        canvas = outline_mask(canvas, large(truth.mask.astype(np.uint8)), TRUTH_COLOR)
    return {
        "image": true,
        "heat map": cv2.addWeighted(gray, 0.5, colors, 0.5, 0),
        "boxes and masks": canvas,
    }


def draw_boxes(
    picture: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    color: tuple[int, int, int],
    factor: int,
) -> np.ndarray:
    """Draw boxes (x1, y1, x2, y2) in image pixels into a picture `factor` times as large."""
    picture = picture.copy()
    for x1, y1, x2, y2 in np.asarray(boxes, float).reshape(-1, 4) * factor:
        cv2.rectangle(
            picture,
            (round(x1), round(y1)),
            (round(x2) - 1, round(y2) - 1),
            color,
            max(1, factor // 2),
        )
    return picture


SECTION_LEGEND = (
    "In images above the threshold, the peaks of the heat map become boxes, and the boxes become"
    " masks, all at the size of the image. Each row of pictures shows the image with its true"
    " boxes (green), the heat map, and the predicted boxes with their masks (orange: mask kept,"
    " gray: mask rejected, violet: box in an image that is known to be normal). True boxes and"
    " outlines of true masks (green) are shown if they are known. Dark images are shown brighter"
    " than they are, with the display gamma that their caption names."
)
SCORE_TITLES = {
    "pointing_box": "pointing game, box",
    "pointing_mask": "pointing game, mask",
    "hit_rate_center_at_1": "lesions hit by the first box",
    "hit_rate_center_at_5": "lesions hit by five boxes",
    froc_score_name(1): "sensitivity at 1 false positive per image",
    "dice": "Dice of masks",
}
PANE_COLUMNS = (
    Column("image", "green: true boxes"),
    Column("heat map", "dark: 0, bright: 1"),
    Column("boxes and masks", "orange: kept, gray: rejected, violet: normal image, green: true"),
)
RANKING_NOTE = (
    "Boxes are ranked by the probability of their image times the height of their peak. Random"
    " networks and the weighted blob use the probability of the trained classifier, so that only"
    " the position differs."
)
IMAGE_FUNNEL_STEPS = (
    *("images", "above the threshold", "heat map made", "heat map not all zero"),
    *("with a box", "not known to be normal", "with a mask that is kept"),
)


def build_summary(
    pseudo_labels: Sequence[PseudoLabel],
    localization: LocalizationReport | None,
    seconds: Mapping[str, float],
    n_heat_maps: int,
) -> dict[str, Any]:
    """Build the summary for report.json.

    It has funnels of images and masks by split, seconds by step, heat maps per second, and scores
    of localization.
    """
    splits = list(dict.fromkeys(each.info.split for each in pseudo_labels))
    of_split = {
        split: [each for each in pseudo_labels if each.info.split == split] for split in splits
    }
    reasons = {
        split: [verdict.reason for each in part for verdict in each.mask_checks]
        for split, part in of_split.items()
    }
    return {
        "images": {split: image_funnel(part) for split, part in of_split.items()},
        "masks": {split: dict(rejection_funnel(part)) for split, part in reasons.items()},
        "seconds": dict(seconds),
        "heat_maps_per_second": (
            n_heat_maps / seconds["heat maps"] if n_heat_maps and seconds.get("heat maps") else None
        ),
        "localization": None if localization is None else asdict(localization) | {"figures": None},
    }


def image_funnel(pseudo_labels: Sequence[PseudoLabel]) -> dict[str, int]:
    """Count the images that are left after each step."""
    left, counts = list(pseudo_labels), [len(pseudo_labels)]
    for asks in (
        lambda each: each.predicted_positive,
        lambda each: each.has_cam,
        lambda each: each.cam_nonzero,
        lambda each: len(each.proposals) > 0,
        lambda each: each.info.label != 0,
        lambda each: each.n_accepted > 0,
    ):
        left = [each for each in left if asks(each)]
        counts.append(len(left))
    return dict(zip(IMAGE_FUNNEL_STEPS, counts, strict=True))


def build_section(
    summary: Mapping[str, Any], localization: LocalizationReport | None, cases: Sequence[Case]
) -> Section:
    """Build the section of the page.

    Args:
        summary: Result of `build_summary`.
        localization: Scores of localization, or None.
        cases: Example images.
    """
    tables = [
        _funnel_table("Images that pass each step", summary["images"]),
        _funnel_table("Masks that pass each quality check", summary["masks"]),
    ]
    if localization is not None:
        tables.insert(0, _score_table(localization))
    tables.append(_timing_table(summary["seconds"], summary["heat_maps_per_second"]))
    figures = {} if localization is None else localization.figures
    return Section(
        "Pseudo labels",
        SECTION_LEGEND,
        PANE_COLUMNS if cases else (),
        cases,
        findings(summary, localization),
        figures,
        tables,
    )


def findings(summary: Mapping[str, Any], localization: LocalizationReport | None) -> list[str]:
    """Return the most important results and warnings, one sentence each."""
    messages = [] if localization is None else [localization.summary]
    if not any(counts["above the threshold"] for counts in summary["images"].values()):
        messages.append(
            "No image reaches the threshold, so there are no boxes and no masks, and the tables"
            " below are empty."
        )
    cold = sum(
        counts["heat map made"] - counts["heat map not all zero"]
        for counts in summary["images"].values()
    )
    if cold:
        fix = "try callbacks.pseudo_labels.heat_maps.method=LayerCAM or another layer"
        messages.append(
            f"The heat maps of {cold} images above the threshold are zero everywhere and give no"
            f" box; {fix}."
        )
    return messages


def _funnel_table(title: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    steps = list(next(iter(counts.values()), {}))
    rows = [[step, *(f"{of_split[step]:,}" for of_split in counts.values())] for step in steps]
    return Table(title, ("step", *counts), rows)


def _score_table(localization: LocalizationReport) -> Table:
    names = [
        name
        for name in SCORE_TITLES
        if any(name in scores for scores in localization.table.values())
    ]
    rows = [
        [
            method,
            *(_format_with_interval(scores[name]) if name in scores else "–" for name in names),
        ]
        for method, scores in localization.table.items()
    ]
    of = {
        name: max(
            (scores[name] for scores in localization.table.values() if name in scores),
            key=lambda score: score["n"],
        )
        for name in names
    }
    definitions = "; ".join(
        f"{SCORE_TITLES[name]}: {score['definition']} (n = {score['n']})"
        for name, score in of.items()
    )
    note = f"{definitions}. Brackets hold 95 % bootstrap intervals over patients. {RANKING_NOTE}"
    return Table(
        "Localization of lesions", ("method", *(SCORE_TITLES[name] for name in names)), rows, note
    )


def _format_with_interval(score: dict[str, Any]) -> str:
    return format_number(score["value"]) + (
        f" [{format_interval(score)}]" if score["low"] is not None else ""
    )


def _timing_table(seconds: Mapping[str, float], heat_maps_per_second: float | None) -> Table:
    whole = sum(seconds.values()) or 1.0
    rows = [
        [step, f"{spent:.1f}", f"{100 * spent / whole:.1f} %"] for step, spent in seconds.items()
    ]
    note = (
        ""
        if heat_maps_per_second is None
        else (
            f"{heat_maps_per_second:.1f} heat maps were made per second; the forward pass of the"
            " classifier, which they share, is not counted. "
        )
    )
    return Table(
        "Time of each step",
        ("step", "time, s", "share of the time"),
        rows,
        f"{note}With several processes, the times are those of the first one.",
    )


def group_cases(cases: Sequence[Case]) -> list[Case]:
    """Group cases by kind, in their order within each kind."""
    kinds = sorted(dict.fromkeys(case.kind for case in cases))
    return [case for kind in kinds for case in cases if case.kind == kind]
