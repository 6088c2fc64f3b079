"""Class activation maps from activations and gradients by the grad-cam library's own classes, brought to 0..1, and enlarged."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.refusal import UserError

METHODS_WITHOUT_SVD = (
    "GradCAM",
    "GradCAMPlusPlus",
    "XGradCAM",
    "HiResCAM",
    "GradCAMElementWise",
    "LayerCAM",
    "FEM",
)
SVD_METHODS = ("EigenCAM", "EigenGradCAM", "SegEigenCAM")
CAM_METHODS = (
    METHODS_WITHOUT_SVD + SVD_METHODS
)  # those of the library that need nothing but a layer's activations and their gradients
MAX_SVD_CELLS = 4096  # cells; the library takes a full SVD, of cells x cells numbers an image


class CAMMethod:
    """The mathematics of a method, by the library's class of that name; nothing here listens to a network.

    Args:
        method: One of METHODS.
        key: What errors call it.
        alignment: Where they look, as `upsample` says.
    """

    def __init__(self, method: str, key: str, alignment: str = "center") -> None:
        import pytorch_grad_cam  # brings matplotlib, scikit-learn and more; only who asks for heat maps waits for it

        self._cam = getattr(pytorch_grad_cam, method)(
            nn.Linear(1, 1), []
        )  # it wants a network, and asks it nothing
        self.method, self.key, self.alignment = method, key, alignment

    @property
    def needs_gradients(self) -> bool:
        """Whether the method looks at a class at all."""
        return self._cam.uses_gradients

    def compute(
        self, activations: Sequence[np.ndarray], gradients: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Heat maps: without the negative part, divided by each image's maximum; those of several layers averaged on the finest grid.

        Args:
            activations: Of each layer float32 `B x C x h x w`.
            gradients: Of the score by them, likewise; not looked at where none are needed.

        Returns:
            float32 `B x h x w` in 0..1; all zero for an image without positive evidence, or with
            numbers that are not finite.

        Raises:
            Refusal: a method by SVD, and a layer with so many cells that the SVD would not fit into
                memory.
        """
        by = list(gradients) if self.needs_gradients else [None for _ in activations]
        maps = [
            scale_to_unit_range(self._compute_layer(*pair))
            for pair in zip(activations, by, strict=True)
        ]
        if len(maps) == 1:
            return maps[0]
        finest = max((each.shape[1:] for each in maps), key=np.prod)
        return scale_to_unit_range(
            np.mean([upsample(each, finest, self.alignment) for each in maps], axis=0)
        )

    def _compute_layer(self, activations: np.ndarray, gradients: np.ndarray | None) -> np.ndarray:
        height, width = activations.shape[2:]
        if self.method in SVD_METHODS and height * width > MAX_SVD_CELLS:
            wrong = (
                f"{self.key}.method={self.method} would take an SVD of {height} x {width} cells,"
                f" more than {MAX_SVD_CELLS}"
            )
            raise UserError(
                f"{wrong}; name a later layer in {self.key}.layers, or take another method such as"
                " LayerCAM"
            )
        if not len(activations):
            return np.zeros((0, height, width), np.float32)
        return self._cam.get_cam_image(None, None, None, activations, gradients, False)


def scale_to_unit_range(maps: np.ndarray) -> np.ndarray:
    """`B x h x w` without the negative part, each divided by its maximum: float32 in 0..1; zero where there is nothing, or anything not finite."""
    maps = (
        np.where(np.isfinite(maps).all(axis=(1, 2), keepdims=True), maps, 0)
        .clip(0)
        .astype(np.float64)
    )
    highest = maps.max(axis=(1, 2), keepdims=True, initial=0)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0).astype(np.float32)


def upsample(heat: np.ndarray, size: tuple[int, int], alignment: str = "center") -> np.ndarray:
    """Heat maps `B x h x w` at canvas size, bilinear between the places where the cells look.

    `center`: the middles of their shares of the canvas, as OpenCV and the library do it, and as
        patches are cut. `corner`: a convolution of stride 2
    that pads both sides looks at the first of its two pixels, so cells look at their upper left
    corner; by the middle, maps of such a network (resnet18, resnet50) point beside the lesion by
    half a cell. Shortcuts that average (resnetrs50) look at the middle, and lie in between.

    The highest pixel may lie a little below the highest cell, which may look between two pixels.

    Args:
        heat: Of cells that share the canvas out evenly.
        size: Height and width in pixels, such as a `Canvas`.
        alignment: `center` or `corner`.

    Returns:
        float32 `B x height x width`.
    """
    if not len(heat):
        return np.zeros((0, *size), np.float32)
    if alignment == "corner":
        return np.stack(
            [
                _upsample_rows_corner_aligned(
                    _upsample_rows_corner_aligned(each, size[0]).T, size[1]
                ).T
                for each in heat
            ]
        )
    return F.interpolate(
        torch.from_numpy(heat).float()[:, None], size, mode="bilinear", align_corners=False
    )[:, 0].numpy()


def _upsample_rows_corner_aligned(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows `n x m` become `length x m`: row j stands at j * length / n, and what lies beyond the last is the last."""
    place = np.minimum(np.arange(length) * (len(rows) / length), len(rows) - 1)
    first = place.astype(int)
    share = (place - first).astype(np.float32)[:, None]
    return (rows[first] * (1 - share) + rows[np.minimum(first + 1, len(rows) - 1)] * share).astype(
        np.float32
    )
