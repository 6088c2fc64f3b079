"""Heat maps as files, and pictures of an image, its heat map, and its boxes and masks."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from callbacks.pseudo_labels.chain import PseudoLabel
from callbacks.pseudo_labels.grad_cam import ClassActivationMaps
from callbacks.pseudo_labels.quota import PerSplitLimit
from callbacks.pseudo_labels.rows import ImageLookup
from callbacks.pseudo_labels.truth import GroundTruth
from callbacks.report.cases import Case, data_url, enlarge
from callbacks.report.mask_cases import PREDICTION_COLOR, TRUTH_COLOR
from callbacks.report.overlay import fill_mask, outline_mask
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import decode
from datamodules.preparation.publishing import file_names

REJECTED_COLOR, FALSE_POSITIVE_COLOR = (150, 150, 150), (230, 120, 200)
MIN_OVERLAY_SIDE = 512  # pixels of a picture's longer side at least
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
    """Writes `heat/*.npy` (float32 `h x w` on the layer's grid), `overlays/*.png` and `masks/*.png`, and keeps a few cases for the page.

    Args:
        folder: Where they go.
        heat_maps: Which know where their cells look.
        overlays: Pictures at most, of each split.
    """

    def __init__(
        self, folder: Path, heat_maps: ClassActivationMaps, overlays: PerSplitLimit
    ) -> None:
        self.folder, self.heat_maps, self.overlays = folder, heat_maps, overlays
        self.examples: list[Case] = []

    def reset(self, data: ManifestDataModule, write_files: bool) -> None:
        """Knows the files' names, which are of whole ids: images of one name in several folders never collide.

        Args:
            data: Prepared.
            write_files: False leaves no files.
        """
        ids = data.table.rows["id"].tolist()
        self._names, self._write_files = dict(zip(ids, file_names(ids), strict=True)), write_files
        self.overlays.reset()
        self.examples = []
        for part in ("heat", "overlays", "masks") if write_files else ():
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def save(
        self, pseudo_label: PseudoLabel, heat: np.ndarray, image: np.ndarray, lookup: ImageLookup
    ) -> None:
        """Files of one image above the threshold.

        Args:
            pseudo_label: What the chain made of it.
            heat: float32 `h x w`.
            image: uint8 `H x W` at its own size.
            lookup: Which know its lesions; they are read where a picture is drawn.
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
                    decode([pseudo_label.mask], *image.shape) * 255,
                )
        if draws:
            cv2.imwrite(
                str(self.folder / "overlays" / f"{name}.png"),
                np.concatenate(list(panes.values()), axis=1),
            )
        if shows:
            caption = (
                f"p = {pseudo_label.probability:.3f}, {len(pseudo_label.proposals)} boxes, {pseudo_label.n_accepted} masks"
                " kept"
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
                )
            )


def render_panes(
    pseudo_label: PseudoLabel, heat: np.ndarray, image: np.ndarray, truth: GroundTruth
) -> dict[str, np.ndarray]:
    """Title -> BGR picture: image with true boxes, heat map over it, boxes with masks; enlarged where the image is small."""
    box = pseudo_label.info.letterbox
    factor = max(1, -(-MIN_OVERLAY_SIDE // max(image.shape)))

    def large(pixels: np.ndarray) -> np.ndarray:
        return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)

    grey = cv2.cvtColor(large(image), cv2.COLOR_GRAY2BGR)
    warm = np.clip(box.back(heat), 0, 1)
    colours = cv2.applyColorMap(large((warm * 255).astype(np.uint8)), cv2.COLORMAP_INFERNO)
    true = draw_boxes(grey, () if truth.lesions is None else truth.lesions, TRUTH_COLOR, factor)
    said = grey
    for i, one in enumerate(
        pseudo_label.boxes
    ):  # of an image known to be normal no masks are drawn
        colour = (
            FALSE_POSITIVE_COLOR
            if not pseudo_label.mask_checks
            else PREDICTION_COLOR
            if pseudo_label.mask_checks[i].reason is None
            else REJECTED_COLOR
        )
        said = draw_boxes(said, [one], colour, factor)
    if pseudo_label.mask is not None:
        mask = large(decode([pseudo_label.mask], *image.shape)[..., 0])
        said = outline_mask(fill_mask(said, mask, PREDICTION_COLOR), mask, PREDICTION_COLOR)
    if truth.mask is not None:
        said = outline_mask(said, large(truth.mask.astype(np.uint8)), TRUTH_COLOR)
    return {
        "image": true,
        "heat map": cv2.addWeighted(grey, 0.5, colours, 0.5, 0),
        "boxes and masks": said,
    }


def draw_boxes(
    picture: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    color: tuple[int, int, int],
    factor: int,
) -> np.ndarray:
    """Boxes (x1, y1, x2, y2) in pixels of the image, drawn into a picture `factor` times as large."""
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
