"""Show the maps of a few test images by layer: principal components and strongest channels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.feature_maps.choice import check_images, first_network
from callbacks.feature_maps.colours import LayerActivations
from callbacks.feature_maps.layers import check_layer_names, find_stage_layers, record_activations
from callbacks.feature_maps.pictures import render, vstack, write_pictures
from callbacks.report.cases import SIDE, data_url
from callbacks.report.kinds import TASK_VIEWS
from callbacks.report.look import can_run_locally, predict_logits
from callbacks.report.section import Column, Section
from callbacks.report.showing import ReportContributor
from datamodules.arguments import Count, FilePath, Whole, validated
from datamodules.image_size import ImageSize
from datamodules.sample import Sample
from lightning_modules.evaluated import EvaluatedModule

LEGEND = (
    "Each column is a layer; each square of a picture is a cell of its map. Above: the first three"
    " principal components of the channels as red, green and blue, fitted over these images"
    " together, so that a colour means the same in every row of a column, and nothing across"
    " columns. Below: the channels that vary most over these images, dark low, bright high, the"
    " same ones in every row."
)


@validated
class FeatureMaps(ReportContributor):
    """Section of the page, and `feature_maps/<image>/*.png` in the run folder, after test.

    Costs nothing in training.

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
            and the map that fuses them. A layer that gives several maps has a column for each. Of
            several networks together (tta, average) the first is shown.
        images: How many. Of masks the best, the worst and the largest lesion, in turn; of labels
            the surest errors, then random ones.
        ids: Instead, images of test by name.
        channels: Of each layer the number of strongest channels, those of the greatest variance,
            that are shown.
    """

    def __init__(
        self,
        run_dir: FilePath,
        layers: Mapping[str, str] | None = None,
        images: Count = 4,
        ids: Sequence[str | int] | None = None,
        channels: Whole = 4,
    ) -> None:
        self.folder = Path(run_dir) / "feature_maps"
        self.layers, self.images, self.channels = layers, images, channels
        self.ids = None if ids is None else [str(id) for id in ids]
        self._section: Section | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse before training layers and images that cannot be shown after it."""
        if stage in ("fit", "test"):
            check_layer_names(first_network(pl_module), self._layers(pl_module))
            check_images(self.ids or (), trainer.datamodule.table)  # type: ignore[attr-defined]

    def _layers(self, module: LightningModule) -> Mapping[str, str]:
        return find_stage_layers(first_network(module)) if self.layers is None else self.layers

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._section = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the section, unless the page has asked already."""
        self.section(trainer, pl_module)

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """Return the pictures of this test, drawn once, on the first process alone.

        None on other processes, and where no process holds the whole network.
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
        if not cases:  # the test was cut short, and none of the named images was evaluated
            return None
        batch = data.dataset(evaluation=True).batch(
            [case.id for case in cases], data.trained_image_size()
        )
        logits, layers = self._compute_layers(trainer, module, batch)
        painted = {title: render(layer, self.channels) for title, layer in layers.items()}

        def panes(i: int, side: int) -> dict[str, np.ndarray]:
            found = kind.render_panes(batch, i, logits[i], module.rule, side)
            return {"image": found["image"], "outlines": found.get("overlay", found["image"])}

        large = [panes(i, max(batch["content"][i][2:]))["outlines"] for i in range(len(cases))]
        write_pictures(self.folder, [case.id for case in cases], large, painted)
        rows = []
        for i, case in enumerate(cases):
            small = panes(i, SIDE)
            tiles = {"image": vstack([small["outlines"], small["image"]])} | {
                title: layer.tile(i) for title, layer in painted.items()
            }
            rows.append(
                replace(case, panes={title: data_url(pixels) for title, pixels in tiles.items()})
            )
        image = Column("image", kind.overlay[len(evidence.classes) > 1])
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
            first_network(module), self._layers(module), aspect=canvas.height / canvas.width
        ) as heard:
            for image in batch["image"]:
                heard.clear()
                logits.append(predict_logits(trainer, module, image))
                maps.append(_layer_title(heard))
        return logits, {
            title: LayerActivations([of_image[title] for of_image in maps], canvas, contents)
            for title in maps[0]
        }


def _layer_title(heard: Mapping[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """A title for each map: that of its layer, numbered where a layer gives several."""
    found = {}
    for title, maps in heard.items():
        for number, each in enumerate(maps, 1):
            found[f"{title} {number}" if len(maps) > 1 else title] = each.numpy()
    return found
