"""The callback of the chain: while do=[predict] runs, heat maps become boxes, boxes masks, and masks the training set of a segmenter."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from callbacks.agreement import gathered
from callbacks.pseudo_labels.boxes import PeakBoxes
from callbacks.pseudo_labels.chain import Chain, Labelled
from callbacks.pseudo_labels.grad_cam import HeatMaps
from callbacks.pseudo_labels.mapped_class import mapped_class
from callbacks.pseudo_labels.masks import KEY, Segmenter
from callbacks.pseudo_labels.pictures import Pictures
from callbacks.pseudo_labels.quality import Quality
from callbacks.pseudo_labels.quota import Quota
from callbacks.pseudo_labels.rows import Rows
from callbacks.pseudo_labels.scored import Nothing
from callbacks.pseudo_labels.scoring import Localisation
from callbacks.pseudo_labels.shown import cases_of, section_of, summary
from callbacks.pseudo_labels.tables import remove_old, write_down
from callbacks.pseudo_labels.timed import Timed
from callbacks.report.content import write_json
from callbacks.report.section import Section
from datamodules.arguments import FilePath, Whole, validated
from datamodules.sample import Sample
from lightning_modules.classification import ClassificationModule


@validated
class PseudoLabels(Timed):
    """Leaves `pseudo_labels/` in the run folder: tables, heat maps, pictures, and manifest.csv, which `datamodule=table` reads.

    An image known to be normal gets boxes where the classifier calls it abnormal, but no masks.

    Example:
        callbacks: {pseudo_labels: {heat_maps: {method: LayerCAM}, max_images: 500}}

    Args:
        run_dir: The run folder.
        heat_maps: Of which method and layers.
        boxes: How peaks become boxes.
        segmenter: How boxes become masks.
        quality: Which masks are kept.
        localisation: How it is scored; None scores nothing.
        of: The class that is looked for; None is the first.
        max_images: At most so many images above the threshold, of each split and process; None for
            all.
        overlays: Pictures at most, likewise.
    """

    def __init__(
        self,
        run_dir: FilePath,
        heat_maps: HeatMaps,
        boxes: PeakBoxes,
        segmenter: Segmenter,
        quality: Quality,
        localisation: Localisation | None = None,
        of: str | None = None,
        max_images: Whole | None = None,
        overlays: Whole = 200,
    ) -> None:
        super().__init__()
        self.folder = Path(run_dir) / "pseudo_labels"
        self.heat_maps, self.of, self._quota = heat_maps, of, Quota(max_images, f"{KEY}.max_images")
        self.localisation = localisation or Nothing()
        self.chain = Chain(heat_maps, boxes, segmenter, quality, self.clock)
        self.pictures = Pictures(self.folder, heat_maps, Quota(overlays, f"{KEY}.overlays"))
        self._stack, self._known = ExitStack(), dict[str, Any]()
        self._section: Section | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be mapped, before any training."""
        self._channel, self._name = mapped_class(trainer, pl_module, self.heat_maps, self.of)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Random networks are drawn, then the trained one is listened to."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._rows, self._found, self._made = Rows(data, self._channel), list[Labelled](), 0
        self._quota.begin()
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            remove_old(self.folder)
        trainer.strategy.barrier("old pseudo labels are gone")
        self.pictures.begin(data, writing=not trainer.fast_dev_run)  # type: ignore[attr-defined]
        with self.clock("scoring the localisation"), trainer.precision_plugin.forward_context():
            self.localisation.begin(pl_module, data, self._rows, self.chain.boxes)
        self._listener = self._stack.enter_context(self.heat_maps.listening(pl_module.net))  # type: ignore[arg-type]

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """The forward begins."""
        self.clock.start("classifier")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """One batch from logits to masks."""
        assert isinstance(pl_module, ClassificationModule)
        probability = pl_module.rule.probability(outputs)[
            :, self._channel
        ].tolist()  # waits for the device
        called = pl_module.rule(outputs)[:, self._channel].tolist()
        self.clock.stop("classifier")
        known = [self._rows.known(id) for id in batch["id"]]
        wanted = [i for i, each in enumerate(known) if called[i] and self._quota.takes(each.split)]
        scored = [i for i, each in enumerate(known) if self.localisation.asks(each)]
        rows = sorted({*wanted, *scored})
        with self.clock("heat maps"):
            heats = dict(
                zip(rows, self._listener.heat(self._channel, rows) if rows else (), strict=True)
            )
            self._made += len(rows)
        found = [Labelled(each, probability[i], called[i]) for i, each in enumerate(known)]
        for i in wanted:
            image = self._rows.image(known[i].id)
            found[i] = self.chain(
                known[i], probability[i], heats[i], image if known[i].label != 0 else None
            )
            with self.clock("files and pictures"):
                self.pictures.keep(found[i], heats[i], image, self._rows)
        self._found += found
        if scored:
            with self.clock("scoring the localisation"), trainer.precision_plugin.forward_context():
                said = [(found[i], heats[i]) for i in scored]
                self.localisation.look(
                    pl_module, batch["image"][scored], said, self.heat_maps, self._channel
                )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stops listening."""
        self._stack.close()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers what all processes found, and writes it down on the first."""
        self._stack.close()
        found, measured, shown = gathered(
            trainer.world_size, self._found, self.localisation.measured, self.pictures.shown
        )
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        place, threshold = self._rows.place, float(pl_module.rule.numbers[self._channel, 0])  # type: ignore[union-attr,index,arg-type]
        found.sort(key=lambda each: place[each.known.id])
        with self.clock("scoring the localisation"):
            scored = self.localisation.scored(
                sorted(measured, key=lambda each: place[next(iter(each.values())).id])
            )
        with self.clock("files and pictures"):
            write_down(self.folder, trainer.datamodule, found, threshold, self._name)  # type: ignore[attr-defined]
        told = summary(found, scored, self.clock.seconds, self._made)
        write_json(told, self.folder / "summary.json")
        self._known, self._section = (
            {"pseudo_labels": told},
            section_of(told, scored, cases_of(shown)),
        )
        print(
            *self._section.said,
            f"pseudo labels of {sum(each.called for each in found)} images above the threshold:"
            f" {self.folder}",
            sep="\n",
        )

    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """What the last prediction found; None before."""
        return self._section

    def known(self) -> dict[str, Any]:
        """Funnel, scores and seconds for report.json."""
        return self._known
