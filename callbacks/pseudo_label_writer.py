"""Weak supervision as a callback: converts image labels to pseudo masks during prediction."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.report_writer import ReportContributor
from datamodules.arguments import FilePath, NonNegativeInt, validated
from datamodules.errors import UserError
from datamodules.loading.dataset import Sample
from lightning_modules.classification import ClassificationModule
from lightning_modules.distributed import all_gather_lists
from reporting.file_io import write_json
from reporting.sections import Section
from weak_supervision.boxes import PeakBoxes
from weak_supervision.cam import ClassActivationMaps
from weak_supervision.localization_scorer import LocalizationScorer, NullScorer
from weak_supervision.pipeline import ImageLookup, PseudoLabel, PseudoLabelPipeline, StepTimer
from weak_supervision.quality import QualityFilter
from weak_supervision.segmenters.base import CONFIG_KEY, Segmenter
from weak_supervision.tables import remove_previous_outputs, write_outputs
from weak_supervision.visualization import (
    OverlayWriter,
    PerSplitLimit,
    build_section,
    build_summary,
    group_cases,
)


def resolve_cam_target(
    trainer: Trainer,
    module: LightningModule,
    heat_maps: ClassActivationMaps,
    target_class: str | None,
) -> tuple[int, str]:
    """Return channel and name of the class for which heat maps are computed.

    Args:
        trainer: Trainer of the run.
        module: Classifier.
        heat_maps: Method and layers.
        target_class: Class that the user chose; None is the first.

    Raises:
        UserError: The module is not a classifier, has no such class or layer, or needs gradients in
            inference mode.
    """
    if not isinstance(module, ClassificationModule):
        raise UserError(
            f"{CONFIG_KEY} needs a classifier; remove it from callbacks=[...] for a segmentation"
            " module"
        )
    if target_class is not None and target_class not in module.classes:
        raise UserError(
            f"{CONFIG_KEY}.target_class={target_class} is none of"
            f" module.classes={list(module.classes)}; set one of them"
        )
    if trainer.predict_loop.inference_mode and heat_maps.needs_gradients:
        message = (
            f"{CONFIG_KEY}.heat_maps.method={heat_maps.method} needs gradients, which inference"
            " mode forbids"
        )
        raise UserError(f"{message}; set trainer.inference_mode=false")
    with heat_maps.recording(module.net):  # raises an error for unknown layers
        name = target_class or module.classes[0]
    return module.classes.index(name), name


class StageTimer(ReportContributor):
    """Callback that times the stages before a prediction with `timer`."""

    def __init__(self) -> None:
        self.timer = StepTimer()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing the fit, its validations included."""
        self.timer.start("fit")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop timing the fit."""
        self.timer.stop("fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing the threshold search, a validation of the best weights after the fit."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.timer.start("threshold")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop timing the threshold search."""
        self.timer.stop("threshold")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing the test."""
        self.timer.start("test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop timing the test."""
        self.timer.stop("test")


@validated
class PseudoLabelWriter(StageTimer):
    """Callback that writes `pseudo_labels/`: tables, heat maps, overlays, and manifest.csv.

    `datamodule=table` reads manifest.csv. A normal image that the classifier predicts as abnormal
    gets boxes but no masks.

    Example:
        callbacks: {pseudo_labels: {heat_maps: {method: LayerCAM}, max_images: 500}}

    Args:
        run_dir: The run folder.
        heat_maps: Method and layers of the heat maps.
        boxes: Function that makes boxes from peaks.
        segmenter: Function that makes masks from boxes.
        quality: Filter that accepts or rejects masks.
        localization: Scorer of localization; None scores nothing.
        target_class: Class of the heat maps; None is the first.
        max_images: Largest number of images above the threshold, per split and process; None for
            all.
        overlays: Largest number of overlays, per split and process.
    """

    def __init__(
        self,
        run_dir: FilePath,
        heat_maps: ClassActivationMaps,
        boxes: PeakBoxes,
        segmenter: Segmenter,
        quality: QualityFilter,
        localization: LocalizationScorer | None = None,
        target_class: str | None = None,
        max_images: NonNegativeInt | None = None,
        overlays: NonNegativeInt = 200,
    ) -> None:
        super().__init__()
        self.folder = Path(run_dir) / "pseudo_labels"
        self.heat_maps, self.target_class, self._image_limit = (
            heat_maps,
            target_class,
            PerSplitLimit(max_images),
        )
        self.localization = localization or NullScorer()
        self.pipeline = PseudoLabelPipeline(heat_maps, boxes, segmenter, quality, self.timer)
        self.overlay_writer = OverlayWriter(self.folder, heat_maps, PerSplitLimit(overlays))
        self._stack, self._report_fields = ExitStack(), dict[str, Any]()
        self._section: Section | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse modules without heat maps, before any training."""
        self._channel, self._class_name = resolve_cam_target(
            trainer, pl_module, self.heat_maps, self.target_class
        )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the random networks, then start recording the trained one."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._lookup, self._pseudo_labels, self._n_heat_maps = (
            ImageLookup(data, self._channel),
            list[PseudoLabel](),
            0,
        )
        self._image_limit.reset()
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            remove_previous_outputs(self.folder)
        trainer.strategy.barrier("old pseudo labels are gone")
        self.overlay_writer.reset(data, write_files=not trainer.fast_dev_run)  # type: ignore[attr-defined]
        with self.timer("scoring the localization"), trainer.precision_plugin.forward_context():
            self.localization.reset(pl_module, data, self._lookup, self.pipeline.boxes)
        self._recorder = self._stack.enter_context(self.heat_maps.recording(pl_module.net))  # type: ignore[arg-type]

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Start timing the forward."""
        self.timer.start("classifier")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Process one batch from logits to masks."""
        assert isinstance(pl_module, ClassificationModule)
        probability = pl_module.rule.probability(outputs)[
            :, self._channel
        ].tolist()  # synchronizes with the device
        called = pl_module.rule(outputs)[:, self._channel].tolist()
        self.timer.stop("classifier")
        known = [self._lookup.info(id) for id in batch["id"]]
        wanted = [
            i for i, each in enumerate(known) if called[i] and self._image_limit.take(each.split)
        ]
        scored = [i for i, each in enumerate(known) if self.localization.wants(each)]
        rows = sorted({*wanted, *scored})
        with self.timer("heat maps"):
            heats = dict(
                zip(rows, self._recorder.compute(self._channel, rows) if rows else (), strict=True)
            )
            self._n_heat_maps += len(rows)
        found = [PseudoLabel(each, probability[i], called[i]) for i, each in enumerate(known)]
        for i in wanted:
            image = self._lookup.load_image(known[i].id)
            found[i] = self.pipeline(
                known[i], probability[i], heats[i], image if known[i].label != 0 else None
            )
            with self.timer("files and pictures"):
                self.overlay_writer.save(found[i], heats[i], image, self._lookup)
        self._pseudo_labels += found
        if scored:
            with self.timer("scoring the localization"), trainer.precision_plugin.forward_context():
                scored_labels = [(found[i], heats[i]) for i in scored]
                self.localization.update(
                    pl_module, batch["image"][scored], scored_labels, self.heat_maps, self._channel
                )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop recording."""
        self._stack.close()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the results of all processes, and write them on the first."""
        self._stack.close()
        found, measured, shown = all_gather_lists(
            self._pseudo_labels,
            self.localization.image_stats,
            self.overlay_writer.examples,
        )
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        place, threshold = self._lookup.index_by_id, float(pl_module.rule.values[self._channel, 0])  # type: ignore[union-attr,index,arg-type]
        found.sort(key=lambda each: place[each.info.id])
        with self.timer("scoring the localization"):
            scored = self.localization.compute(
                sorted(measured, key=lambda each: place[next(iter(each.values())).id])
            )
        with self.timer("files and pictures"):
            write_outputs(self.folder, trainer.datamodule, found, threshold, self._class_name)  # type: ignore[attr-defined]
        summary = build_summary(found, scored, self.timer.seconds, self._n_heat_maps)
        write_json(summary, self.folder / "summary.json")
        self._report_fields, self._section = (
            {"pseudo_labels": summary},
            build_section(summary, scored, group_cases(shown)),
        )
        print(
            *self._section.messages,
            f"pseudo labels of {sum(each.predicted_positive for each in found)} images above the"
            f" threshold: {self.folder}",
            sep="\n",
        )

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """Return the section of the last prediction; None before any."""
        return self._section

    def extra_report_fields(self) -> dict[str, Any]:
        """Return funnels, scores and seconds for report.json."""
        return self._report_fields
