"""Heat maps as files, and pictures of an image, its heat map, and its boxes and masks."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from callbacks.pseudo_labels.chain import Labelled
from callbacks.pseudo_labels.grad_cam import HeatMaps
from callbacks.pseudo_labels.quota import Quota
from callbacks.pseudo_labels.rows import Rows
from callbacks.pseudo_labels.truth import Truth
from callbacks.report.cases import Case, data_url, enlarge
from callbacks.report.mask_cases import PREDICTION, TRUTH
from callbacks.report.overlay import outlined_one, tinted
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import decode
from datamodules.preparation.publishing import file_names

REJECTED, FALSE = (150, 150, 150), (230, 120, 200)
SMALLEST = 512  # pixels of a picture's longer side at least
SHOWN, SIDE = 3, 420  # images of each kind on the page, and their longest side in pixels
KINDS = (
    "abnormal, above the threshold",
    "normal, above the threshold",
    "unknown, above the threshold",
)


class Pictures:
    """Writes `heat/*.npy` (float32 `h x w` on the layer's grid), `overlays/*.png` and `masks/*.png`, and keeps a few cases for the page.

    Args:
        folder: Where they go.
        heat_maps: Which know where their cells look.
        overlays: Pictures at most, of each split.
    """

    def __init__(self, folder: Path, heat_maps: HeatMaps, overlays: Quota) -> None:
        self.folder, self.heat_maps, self.overlays = folder, heat_maps, overlays
        self.shown: list[Case] = []

    def begin(self, data: ManifestDataModule, writing: bool) -> None:
        """Knows the files' names, which are of whole ids: images of one name in several folders never collide.

        Args:
            data: Prepared.
            writing: False leaves no files.
        """
        ids = data.table.rows["id"].tolist()
        self._names, self._writing = dict(zip(ids, file_names(ids), strict=True)), writing
        self.overlays.begin()
        self.shown = []
        for part in ("heat", "overlays", "masks") if writing else ():
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def keep(self, found: Labelled, heat: np.ndarray, image: np.ndarray, rows: Rows) -> None:
        """Files of one image above the threshold.

        Args:
            found: What the chain made of it.
            heat: float32 `h x w`.
            image: uint8 `H x W` at its own size.
            rows: Which know its lesions; they are read where a picture is drawn.
        """
        name, split = self._names[found.known.id], found.known.split
        kind = KINDS[2 if found.known.label is None else 1 - found.known.label]
        shows = split == "test" and sum(case.kind == kind for case in self.shown) < SHOWN
        draws = self._writing and self.overlays.takes(split)
        panes = {}
        if shows or draws:
            panes = drawn(
                found,
                self.heat_maps.enlarged(heat, found.known.letterbox.canvas),
                image,
                rows.truth(found.known.id),
            )
        if self._writing:
            np.save(self.folder / "heat" / f"{name}.npy", heat)
            if found.mask is not None:
                cv2.imwrite(
                    str(self.folder / "masks" / f"{name}.png"),
                    decode([found.mask], *image.shape) * 255,
                )
        if draws:
            cv2.imwrite(
                str(self.folder / "overlays" / f"{name}.png"),
                np.concatenate(list(panes.values()), axis=1),
            )
        if shows:
            caption = (
                f"p = {found.probability:.3f}, {len(found.found)} boxes, {found.accepted} masks"
                " kept"
            )
            self.shown.append(
                Case(
                    kind,
                    found.known.id,
                    caption,
                    {title: data_url(enlarge(pane, side=SIDE)) for title, pane in panes.items()},
                )
            )


def drawn(
    found: Labelled, heat: np.ndarray, image: np.ndarray, truth: Truth
) -> dict[str, np.ndarray]:
    """Title -> BGR picture: image with true boxes, heat map over it, boxes with masks; enlarged where the image is small."""
    box = found.known.letterbox
    factor = max(1, -(-SMALLEST // max(image.shape)))

    def large(pixels: np.ndarray) -> np.ndarray:
        return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)

    grey = cv2.cvtColor(large(image), cv2.COLOR_GRAY2BGR)
    warm = np.clip(box.back(heat), 0, 1)
    colours = cv2.applyColorMap(large((warm * 255).astype(np.uint8)), cv2.COLORMAP_INFERNO)
    true = boxed(grey, () if truth.lesions is None else truth.lesions, TRUTH, factor)
    said = grey
    for i, one in enumerate(found.boxes):  # of an image known to be normal no masks are drawn
        colour = (
            FALSE
            if not found.verdicts
            else PREDICTION
            if found.verdicts[i].reason is None
            else REJECTED
        )
        said = boxed(said, [one], colour, factor)
    if found.mask is not None:
        mask = large(decode([found.mask], *image.shape)[..., 0])
        said = outlined_one(tinted(said, mask, PREDICTION), mask, PREDICTION)
    if truth.mask is not None:
        said = outlined_one(said, large(truth.mask.astype(np.uint8)), TRUTH)
    return {
        "image": true,
        "heat map": cv2.addWeighted(grey, 0.5, colours, 0.5, 0),
        "boxes and masks": said,
    }


def boxed(
    picture: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    colour: tuple[int, int, int],
    factor: int,
) -> np.ndarray:
    """Boxes (x1, y1, x2, y2) in pixels of the image, drawn into a picture `factor` times as large."""
    picture = picture.copy()
    for x1, y1, x2, y2 in np.asarray(boxes, float).reshape(-1, 4) * factor:
        cv2.rectangle(
            picture,
            (round(x1), round(y1)),
            (round(x2) - 1, round(y2) - 1),
            colour,
            max(1, factor // 2),
        )
    return picture
