"""Colours of maps: principal components as red, green and blue, and the strongest channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.linalg import eigh

from datamodules.content import ContentBox
from datamodules.image_size import ImageSize

PERCENTILES = (1, 99)  # percentiles of the cells that become the darkest and the brightest
N_COMPONENTS = 3  # principal components


@dataclass(frozen=True)
class LayerActivations:
    """The maps of one layer for all images that are shown.

    Colours are fitted over all images together, so that they compare.

    Attributes:
        maps: Float32 `C x h x w` each.
        canvas: The network's input.
        contents: The picture's place on the canvas, each; what is outside is padding and does not
            count.
    """

    maps: Sequence[np.ndarray]
    canvas: ImageSize
    contents: Sequence[ContentBox]

    def flatten_cells(self) -> np.ndarray:
        """Return float32 `N x C`: the cells of all maps that the pictures touch."""
        parts = [self._inside(i) for i in range(len(self.maps))]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).T

    def _inside(self, i: int) -> np.ndarray:
        top, left, height, width = self.contents[i]
        rows, columns = self.maps[i].shape[1:]
        down, right = (
            -(-(top + height) * rows // self.canvas.height),
            -(-(left + width) * columns // self.canvas.width),
        )  # rounded up
        return self.maps[i][
            :, top * rows // self.canvas.height : down, left * columns // self.canvas.width : right
        ]

    def components(self, cells: np.ndarray) -> list[np.ndarray]:
        """Return the content of each image as uint8 RGB `height x width x 3`.

        Fewer than three components leave blue, then green dark.
        """
        centre, axes = principal_components(cells)
        low, high = np.percentile((cells - centre) @ axes, PERCENTILES, axis=0)
        found = []
        for i, each in enumerate(self.maps):
            colours = _scale_to_range(
                np.einsum("chw,ck->hwk", each - centre[:, None, None], axes), low, high
            )
            found.append(
                self._place_on_canvas(
                    np.pad(colours, ((0, 0), (0, 0), (0, N_COMPONENTS - axes.shape[1]))), i
                )
            )
        return found

    def channel(self, cells: np.ndarray, number: int) -> list[np.ndarray]:
        """Return one channel of each image's content as uint8 `height x width`."""
        low, high = np.percentile(cells[:, number], PERCENTILES)
        return [
            self._place_on_canvas(_scale_to_range(each[number], low, high), i)
            for i, each in enumerate(self.maps)
        ]

    def _place_on_canvas(self, pixels: np.ndarray, i: int) -> np.ndarray:
        """Cells as squares on the canvas, padding cut off."""
        top, left, height, width = self.contents[i]
        canvas = cv2.resize(pixels, self.canvas[::-1], interpolation=cv2.INTER_NEAREST)
        return canvas[top : top + height, left : left + width]


def principal_components(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the (up to three) axes of greatest variance.

    Each axis points where its largest loading is positive.

    Args:
        cells: Float32 `N x C`.

    Returns:
        `C` and `C x k`.
    """
    centre, channels = cells.mean(0), cells.shape[1]
    moved = cells - centre
    _, axes = eigh(
        (moved.T @ moved).astype(np.float64),
        subset_by_index=[max(0, channels - N_COMPONENTS), channels - 1],
    )
    axes = axes[:, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], axis=0)
    return centre, (axes * np.where(largest < 0, -1, 1)).astype(np.float32)


def top_variance_channels(cells: np.ndarray, number: int) -> list[int]:
    """Return the channels that vary most over `N x C` cells.

    One that is high everywhere would tell no place from another.
    """
    return np.argsort(-cells.var(0), kind="stable")[:number].tolist()


def _scale_to_range(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    span = np.where(high > low, high - low, 1)
    return (np.clip((values - low) / span, 0, 1) * 255).round().astype(np.uint8)
