"""A layer's pictures, as tiles of the page and as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from callbacks.feature_maps.colours import LayerActivations, top_variance_channels
from callbacks.report.cases import enlarge
from datamodules.preparation.publishing import file_names, write_png

GAP = 4  # pixels between the pictures of a tile


@dataclass(frozen=True)
class RenderedLayer:
    """One layer, painted.

    Attributes:
        about: Size of its map, and the channels that are shown below.
        components: Of each image, uint8 BGR `height x width x 3`.
        channels: Channel -> its picture of each image, in the same format.
    """

    about: str
    components: list[np.ndarray]
    channels: dict[int, list[np.ndarray]]

    def tile(self, i: int) -> np.ndarray:
        """Image `i` for the page: the components, below them the channels, two a row."""
        above = enlarge(self.components[i], cv2.INTER_NEAREST)
        height, width = above.shape[:2]
        half = (width - GAP) // 2, max(1, (height - GAP) // 2)
        small = [
            cv2.resize(pictures[i], half, interpolation=cv2.INTER_AREA)
            for pictures in self.channels.values()
        ]
        rows = [_hstack(small[k : k + 2], width) for k in range(0, len(small), 2)]
        return vstack([above, *rows])


def render(layer: LayerActivations, channels: int) -> RenderedLayer:
    """The principal components and the strongest channels of a layer."""
    cells = layer.flatten_cells()
    count, rows, columns = layer.maps[0].shape
    shown = {
        number: [
            cv2.applyColorMap(pixels, cv2.COLORMAP_VIRIDIS)
            for pixels in layer.channel(cells, number)
        ]
        for number in top_variance_channels(cells, channels)
    }
    components = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in layer.components(cells)]
    below = f"; below {', '.join(map(str, shown))}" if shown else ""
    return RenderedLayer(f"{count} channels, {rows} × {columns} cells{below}", components, shown)


def vstack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """One below the other, with a black gap; all of the same width."""
    black = np.zeros((GAP, pictures[0].shape[1], 3), np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, black)][:-1])


def _hstack(pictures: Sequence[np.ndarray], width: int) -> np.ndarray:
    row = np.zeros((pictures[0].shape[0], width, 3), np.uint8)
    for k, picture in enumerate(pictures):
        left = k * (width - picture.shape[1])
        row[:, left : left + picture.shape[1]] = picture
    return row


def write_pictures(
    folder: Path,
    ids: Sequence[str],
    outlines: Sequence[np.ndarray],
    layers: Mapping[str, RenderedLayer],
) -> None:
    """Write PNG files of each image, as large as the network saw the picture.

    The files are `<image>/image.png`, `<image>/<layer>.png` and `<image>/<layer>_channels.png`
    (side by side).

    Args:
        folder: Made where it is missing.
        ids: Of the images.
        outlines: BGR, each image with truth and prediction.
        layers: Title -> its pictures.
    """
    titles = file_names(list(layers))
    for i, name in enumerate(file_names(list(ids))):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        files = {"image": outlines[i]}
        for title, painted in zip(titles, layers.values(), strict=True):
            files[title] = painted.components[i]
            if painted.channels:
                files[f"{title}_channels"] = np.concatenate(
                    [pictures[i] for pictures in painted.channels.values()], axis=1
                )
        for title, pixels in files.items():
            write_png(place / f"{title}.png", np.ascontiguousarray(pixels[..., ::-1]))
