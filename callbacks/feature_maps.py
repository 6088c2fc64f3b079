"""Feature maps of a network's layers, as PNG files and as a section of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import cv2
import numpy as np
from lightning import LightningModule, Trainer
from scipy.linalg import eigh
from torch import Tensor

from callbacks.report_writer import ReportContributor
from datamodules.arguments import FilePath, NonNegativeInt, PositiveInt, validated
from datamodules.errors import UserError
from datamodules.formats.file_names import safe_file_names
from datamodules.image_size import ImageSize
from datamodules.loading.dataset import Sample
from datamodules.loading.letterbox import ContentBox
from datamodules.manifest.manifest import Manifest
from datamodules.preparation.export import write_png
from lightning_modules.base import EvaluatedModule
from lightning_modules.ensemble import first_network
from lightning_modules.networks.introspection import (
    check_layer_names,
    find_stage_layers,
    record_activations,
)
from reporting.case_images import can_run_locally, predict_logits
from reporting.cases import SIDE, data_url, enlarge
from reporting.sections import Column, Section
from reporting.task_view import TASK_VIEWS

FEATURE_MAPS_KEY = "callbacks.feature_maps"


def check_images(ids: Sequence[str], table: Manifest) -> None:
    """Refuse an image that is not in test, with a message that names similar ids."""
    known = table.rows["id"][table.rows["split"] == "test"].tolist()
    for id in ids:
        if id not in known:
            near = get_close_matches(id, known, n=3, cutoff=0.4) or known[:3]
            raise UserError(
                f"{FEATURE_MAPS_KEY}.ids names {id}, which is not an image of test; did you mean"
                f" {' or '.join(near)}?"
            )


PERCENTILES = (1, 99)  # percentiles of the cells that become black and white
N_COMPONENTS = 3  # principal components


@dataclass(frozen=True)
class LayerActivations:
    """Feature maps of one layer for all displayed images.

    Colors are fitted over all images together, so that they can be compared.

    Attributes:
        maps: Map of each image, float32 `C x h x w`.
        canvas: Size of the network's input.
        contents: Position of each image on the canvas; everything outside is padding and is
            ignored.
    """

    maps: Sequence[np.ndarray]
    canvas: ImageSize
    contents: Sequence[ContentBox]

    def flatten_cells(self) -> np.ndarray:
        """Return the cells of all maps that overlap their image, float32 `N x C`."""
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
        """Return the principal components of each image as uint8 RGB `height x width x 3`.

        With fewer than three components, blue and then green are 0.
        """
        center, axes = principal_components(cells)
        low, high = np.percentile((cells - center) @ axes, PERCENTILES, axis=0)
        found = []
        for i, each in enumerate(self.maps):
            colors = _scale_to_range(
                np.einsum("chw,ck->hwk", each - center[:, None, None], axes), low, high
            )
            found.append(
                self._place_on_canvas(
                    np.pad(colors, ((0, 0), (0, 0), (0, N_COMPONENTS - axes.shape[1]))), i
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
        """Return the cells as squares on the canvas, without padding."""
        top, left, height, width = self.contents[i]
        canvas = cv2.resize(pixels, self.canvas[::-1], interpolation=cv2.INTER_NEAREST)
        return canvas[top : top + height, left : left + width]


def principal_components(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the (up to three) axes of greatest variance.

    The sign of each axis makes its largest loading positive.

    Args:
        cells: Float32 `N x C`.

    Returns:
        `C` and `C x k`.
    """
    center, channels = cells.mean(0), cells.shape[1]
    moved = cells - center
    _, axes = eigh(
        (moved.T @ moved).astype(np.float64),
        subset_by_index=[max(0, channels - N_COMPONENTS), channels - 1],
    )
    axes = axes[:, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], axis=0)
    return center, (axes * np.where(largest < 0, -1, 1)).astype(np.float32)


def top_variance_channels(cells: np.ndarray, number: int) -> list[int]:
    """Return the channels with the greatest variance over `N x C` cells.

    A channel that is high everywhere would not distinguish positions.
    """
    return np.argsort(-cells.var(0), kind="stable")[:number].tolist()


def _scale_to_range(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    span = np.where(high > low, high - low, 1)
    return (np.clip((values - low) / span, 0, 1) * 255).round().astype(np.uint8)


GAP = 4  # pixels between the pictures of a tile


@dataclass(frozen=True)
class RenderedLayer:
    """Rendered images of one layer.

    Attributes:
        about: Size of its map, and the displayed channels.
        components: Component image of each input image, uint8 BGR `height x width x 3`.
        channels: Channel -> its image for each input image, in the same format.
    """

    about: str
    components: list[np.ndarray]
    channels: dict[int, list[np.ndarray]]

    def tile(self, i: int) -> np.ndarray:
        """Return the tile of image `i` for the page: the components and below them the channels."""
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
    """Render the principal components and the strongest channels of a layer."""
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
    """Stack images of equal width vertically, with a black gap."""
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
    """Write PNG files of each image, in the size of the network's input.

    The files are `<image>/image.png`, `<image>/<layer>.png` and `<image>/<layer>_channels.png`
    (side by side).

    Args:
        folder: Output folder, which is created if it is missing.
        ids: Ids of the images.
        outlines: Image with truth and prediction for each id, BGR.
        layers: Title -> rendered images of the layer.
    """
    titles = safe_file_names(list(layers))
    for i, name in enumerate(safe_file_names(list(ids))):
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


LEGEND = (
    "Each column is a layer; each square of an image is a cell of its map. Above: the first three"
    " principal components of the channels as red, green and blue, fitted over these images"
    " together, so that a color has the same meaning in every row of a column; colors of"
    " different columns are unrelated. Below: the channels that vary most over these images (dark"
    " is low, bright is high), the same ones in every row."
)


@validated
class FeatureMaps(ReportContributor):
    """Callback that adds feature maps to the page and writes `feature_maps/<image>/*.png`.

    It runs after test and costs nothing in training.

    Example:
        callbacks:
          feature_maps:
            layers: {stage: encoder, fused: decoder}    # null finds them
            images: 4
            ids: null
            channels: 4

    Args:
        run_dir: The run folder.
        layers: Title -> name of a layer of the net, as in `named_modules`; None finds the stages
            and the map that fuses them. A layer with several maps has a column for each. For
            several networks together (tta, average) the first one is shown.
        images: Number of images. For masks these are the best, the worst and the largest lesion, in
            turn; for labels the most confident errors, then random images.
        ids: Names of test images to use instead.
        channels: Number of channels to show for each layer, those of the greatest variance.
    """

    def __init__(
        self,
        run_dir: FilePath,
        layers: Mapping[str, str] | None = None,
        images: PositiveInt = 4,
        ids: Sequence[str | int] | None = None,
        channels: NonNegativeInt = 4,
    ) -> None:
        self.folder = Path(run_dir) / "feature_maps"
        self.layers, self.images, self.channels = layers, images, channels
        self.ids = None if ids is None else [str(id) for id in ids]
        self._section: Section | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before training, layers and images that cannot be shown after it."""
        if stage in ("fit", "test"):
            check_layer_names(first_network(pl_module.net), self._layers(pl_module))  # type: ignore[arg-type]
            check_images(self.ids or (), trainer.datamodule.table)  # type: ignore[attr-defined]

    def _layers(self, module: LightningModule) -> Mapping[str, str]:
        if self.layers is None:
            return find_stage_layers(first_network(module.net))  # type: ignore[arg-type]
        return self.layers

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear the section of an earlier test."""
        self._section = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the section, unless the report has requested it already."""
        self.section(trainer, pl_module)

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """Return the section of this test, rendered once, on the first process only.

        It is None on other processes, and if no process holds the whole network.
        """
        if not trainer.is_global_zero or trainer.fast_dev_run or not can_run_locally(trainer):  # type: ignore[attr-defined]
            return None
        if (
            self._section is None
            and isinstance(pl_module, EvaluatedModule)
            and "test" in pl_module.evidence
        ):
            self._section = self._render_section(trainer, pl_module)
        return self._section

    def _render_section(self, trainer: Trainer, module: EvaluatedModule) -> Section | None:
        evidence, data = module.evidence["test"], trainer.datamodule  # type: ignore[attr-defined]
        kind = TASK_VIEWS[evidence.kind]
        cases = kind.select_examples(evidence, self.images, self.ids)
        if not cases:  # the test was limited, and none of the named images was evaluated
            return None
        batch = data.dataset(evaluation=True).batch(
            [case.id for case in cases], data.current_image_size()
        )
        logits, layers = self._compute_layers(trainer, module, batch)
        painted = {title: render(layer, self.channels) for title, layer in layers.items()}

        def render_image(i: int, side: int) -> dict[str, np.ndarray]:
            """Render image `i`, plain and with the outlines of truth and prediction."""
            panes = kind.render_panes(batch, i, logits[i], module.rule, side)
            return {"image": panes["image"], "outlines": panes.get("overlay", panes["image"])}

        large = [
            render_image(i, max(batch["content"][i][2:]))["outlines"] for i in range(len(cases))
        ]
        write_pictures(self.folder, [case.id for case in cases], large, painted)
        rows = []
        for i, case in enumerate(cases):
            small = render_image(i, SIDE)
            tiles = {"image": vstack([small["outlines"], small["image"]])} | {
                title: layer.tile(i) for title, layer in painted.items()
            }
            rows.append(
                replace(case, panes={title: data_url(pixels) for title, pixels in tiles.items()})
            )
        image = Column("image", kind.OVERLAY[len(evidence.classes) > 1])
        silent = [
            title
            for title in self._layers(module)
            if not any(shown == title or shown.startswith(f"{title} ") for shown in painted)
        ]
        left_out = f" Left out, because they gave no map: {', '.join(silent)}." if silent else ""
        return Section(
            "Feature maps",
            LEGEND + left_out,
            [image, *(Column(title, layer.about) for title, layer in painted.items())],
            rows,
        )

    def _compute_layers(
        self, trainer: Trainer, module: EvaluatedModule, batch: Sample
    ) -> tuple[list[Tensor], dict[str, LayerActivations]]:
        """Return the logits of each image, and the maps of each column."""
        logits, maps = [], []
        canvas, contents = ImageSize(*batch["image"].shape[-2:]), batch["content"]
        with record_activations(
            first_network(module.net), self._layers(module), aspect=canvas.height / canvas.width
        ) as recorded:
            for image in batch["image"]:
                recorded.clear()
                logits.append(predict_logits(trainer, module, image))
                maps.append(_layer_title(recorded))
        return logits, {
            title: LayerActivations([of_image[title] for of_image in maps], canvas, contents)
            for title in maps[0]
        }


def _layer_title(recorded: Mapping[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """Return a title for each map: that of its layer, numbered if a layer has several."""
    found = {}
    for title, maps in recorded.items():
        for number, each in enumerate(maps, 1):
            found[f"{title} {number}" if len(maps) > 1 else title] = each.numpy()
    return found
