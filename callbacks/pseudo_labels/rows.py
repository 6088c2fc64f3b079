"""What the table of a data set knows of each image: its place, label and size, its pixels, and its true lesions."""

from pathlib import Path
from typing import Any

import numpy as np

from callbacks.pseudo_labels.chain import ImageInfo
from callbacks.pseudo_labels.truth import GroundTruth, reconcile_boxes_with_label
from datamodules.base import ManifestDataModule
from datamodules.images import read_image
from datamodules.labels import label_matrix
from datamodules.letterbox import Letterbox
from datamodules.picture import load_view


class ImageLookup:
    """The images of a data set by their ids.

    Args:
        data: Prepared.
        channel: The class that is looked for.
    """

    def __init__(self, data: ManifestDataModule, channel: int = 0) -> None:
        self._table, self._canvas = data.table, data.trained_image_size()
        self._sizes = np.asarray(data.cache.sizes).tolist()
        labels = label_matrix(data.table)
        self._labels = None if labels is None else labels[:, channel].astype(int).tolist()
        rows: Any = data.table.rows
        self._columns = {
            name: rows[name].tolist()
            for name in ("image", "split", "group", "boxes", "true_mask")
            if name in rows
        }
        self.index_by_id = {id: number for number, id in enumerate(data.table.rows["id"].tolist())}

    def info(self, id: str) -> ImageInfo:
        """Split, label and letterbox."""
        row = self.index_by_id[id]
        label = None if self._labels is None else self._labels[row]
        height, width = self._sizes[row]
        return ImageInfo(
            id, self._columns["split"][row], label, Letterbox(height, width, self._canvas)
        )

    def load_image(self, id: str) -> np.ndarray:
        """uint8 `H x W`, at its own size."""
        row = self.index_by_id[id]
        return load_view(
            self._table, row, read_image(Path(self._columns["image"][row]), channels=1)
        )[..., 0]

    def ground_truth(self, id: str) -> GroundTruth:
        """Its lesions, where boxes or a mask tell of them."""
        row = self.index_by_id[id]
        height, width = self._sizes[row]
        path = self._columns["true_mask"][row] if "true_mask" in self._columns else None
        mask = self._table.read_mask(path)[0][..., 0] > 0 if isinstance(path, str) else None
        boxes = self._columns["boxes"][row] if "boxes" in self._columns else None
        boxes = boxes if isinstance(boxes, list) else None
        if self._labels is not None:
            boxes = reconcile_boxes_with_label(self._labels[row], boxes)
        return GroundTruth(id, self._columns["group"][row], height, width, boxes, mask)

    def has_known_lesions(self, split: str) -> bool:
        """Whether the lesions of any image of a split are known."""
        there = [row for row, of in enumerate(self._columns["split"]) if of == split]
        boxes = (
            any(self._columns["boxes"][row] for row in there) if "boxes" in self._columns else False
        )
        return boxes or (
            "true_mask" in self._columns
            and any(isinstance(self._columns["true_mask"][row], str) for row in there)
        )
