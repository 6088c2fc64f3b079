"""Writers of predictions: masks, RLE and label tables, and scores of hard examples."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from datamodules.arguments import FilePath, validated
from datamodules.errors import UserError
from datamodules.formats.image_files import file_suffix
from datamodules.formats.rle import decode_rle, decode_siim, encode_siim
from datamodules.formats.volumes import SliceIndex, read_grid, write_volume
from datamodules.loading.dataset import Sample
from datamodules.manifest.validation import BLANK_REASON
from datamodules.pneumothorax import write_siim_csv
from datamodules.preparation.export import safe_file_names, write_png
from datamodules.sampling import hard_example_scores
from datamodules.sampling.hard_example_scores import HELD_OUT, IN_SAMPLE, OUT_OF_FOLD
from evaluation.evidence import ClassificationEvidence
from lightning_modules.base import EvaluatedModule
from lightning_modules.classification import ClassificationModule
from lightning_modules.distributed import all_gather_lists
from lightning_modules.segmentation import SegmentationModule

MAX_CLASSES = 255  # values of a gray pixel beside the background


@validated
class PredictionWriter(Callback):
    """Callback that writes `predictions/`: `submission.csv` and `masks/*.png`, or `labels.csv`.

    Masks have each image's own size and follow the decision rule in force; the CSV holds their RLE.
    With several classes, each has its own folder and CSV. Exclusive classes have one PNG per image
    for all of them, a class map, whose values `masks/values.csv` names: 0 is the background, k the
    k-th class; the RLEs of each class are in its CSV as well. The slices of a volume become one
    volume of its format on its grid: 0 and 1 for one class, a class map for exclusive classes, and
    one volume of 0 and 1 per class for several others. `labels.csv` is in `predictions/` too. Files
    that cannot be read are in all tables, with the reason in a column `problem`.

    Example:
        callbacks: {predictions: {run_dir: "${paths.run}", masks: true}}

    Args:
        run_dir: The run folder.
        masks: True to write PNGs too.
        rle_encoding: `relative` for RLE pairs of gap and length, as in the SIIM-ACR competition;
            `absolute` for start and length.
    """

    def __init__(
        self,
        run_dir: FilePath,
        masks: bool = True,
        rle_encoding: Literal["relative", "absolute"] = "relative",
    ) -> None:
        self.folder = Path(run_dir) / "predictions"
        self.masks = masks
        self.rle_encoding = rle_encoding
        self._rows: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect each image's own size, file name and split.

        Raises:
            UserError: A class map cannot hold so many exclusive classes.
        """
        if getattr(pl_module, "exclusive", False) and self.masks:
            if isinstance(pl_module, SegmentationModule) and len(pl_module.classes) > MAX_CLASSES:
                raise UserError(
                    f"a class map holds at most {MAX_CLASSES} classes, and module.classes names"
                    f" {len(pl_module.classes)}; set callbacks.predictions.masks=false"
                )
        data = trainer.datamodule  # type: ignore[attr-defined]
        ids = data.table.rows["id"].tolist()
        self._sizes = dict(zip(ids, np.asarray(data.cache.sizes).tolist(), strict=True))
        self._names = dict(zip(ids, safe_file_names(ids), strict=True))
        self._splits = (
            dict(zip(ids, data.table.rows["split"], strict=True))
            if len(data.predict_splits) > 1
            else {}
        )
        self._slices = _slices_of(data.table)
        self._unreadable = dict(data.unreadable)
        self._blank = data.cleaning.as_dict().get(BLANK_REASON)
        self._rows = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Convert the logits of a batch to masks or labels, image by image."""
        if isinstance(pl_module, SegmentationModule):
            self._rows += [
                self._write_overlay(pl_module, id, self._full_size_mask(outputs, batch, i))
                for i, id in enumerate(batch["id"])
            ]
        elif isinstance(pl_module, ClassificationModule):
            self._rows += _summary_line(pl_module, outputs, batch)

    def _full_size_mask(self, logits: Tensor, batch: Sample, i: int) -> Tensor:
        """Return the logits of one image at its own size, without padding."""
        inside = logits[i : i + 1][batch["content"][i].slices].float()
        return F.interpolate(
            inside, size=tuple(self._sizes[batch["id"][i]]), mode="bilinear", align_corners=False
        )

    def _write_overlay(self, module: SegmentationModule, id: str, logits: Tensor) -> dict[str, Any]:
        masks = module.rule(logits)[0].to(torch.uint8).cpu().numpy()
        writes_png = self.masks and id not in self._slices  # a volume is written at the end
        if writes_png and module.exclusive:
            numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]
            self._write_png(id, (masks * numbers).max(0))
        row = {"id": id}
        for name, mask in zip(module.classes, masks, strict=True):
            row[name] = encode_siim(mask, self.rle_encoding == "relative")
            if writes_png and not module.exclusive:
                self._write_png(id, mask * 255, _prepare_folder(module.classes, name))
        return row

    def _write_png(self, id: str, pixels: np.ndarray, subfolder: str = "") -> None:
        """Write gray values, uint8 `H x W`."""
        path = self.folder / "masks" / subfolder / f"{self._names[id]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, pixels[..., None])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the tables of all processes."""
        (rows,) = all_gather_lists(self._rows)
        if not trainer.is_global_zero or not rows:
            return
        place = {id: number for number, id in enumerate(self._sizes)}
        rows.sort(key=lambda row: place[row["id"]])
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(pl_module, SegmentationModule):
            for name in pl_module.classes:
                table = self.folder / _prepare_folder(pl_module.classes, name) / "submission.csv"
                table.parent.mkdir(exist_ok=True)
                texts = {row["id"]: row[name] for row in rows}
                write_siim_csv(table, texts, self._unreadable)
            if self.masks and self._slices:
                self._write_volumes(pl_module, rows)
            if self.masks and pl_module.exclusive:
                values = pd.DataFrame({"class": ["background", *pl_module.classes]})
                values.to_csv(self.folder / "masks" / "values.csv", index_label="value")
        else:
            labels = pd.DataFrame(rows)
            if self._unreadable:
                missing = {"id": self._unreadable.keys(), "problem": self._unreadable.values()}
                whole = {name: "Int64" for name in labels if str(name).startswith("says ")}
                labels = labels.astype(whole)  # a missing decision would make them floats
                labels = pd.concat([labels, pd.DataFrame(missing)], ignore_index=True)
            if self._splits:  # the split shows which images were trained on
                labels.insert(1, "split", [self._splits[id] for id in labels["id"]])
            labels.to_csv(self.folder / "labels.csv", index=False)
        print(f"predictions of {len(rows)} images: {self.folder}")
        for id, reason in self._unreadable.items():
            print(f"no prediction of '{id}': {reason}")
        if self._blank:
            print(
                f"{self._blank['count']} times {BLANK_REASON}: {', '.join(self._blank['examples'])}"
            )

    def _write_volumes(self, module: SegmentationModule, rows: list[dict[str, Any]]) -> None:
        """Write the masks of all slices of each volume, from the RLEs of all processes."""
        slices: dict[Path, list[dict[str, Any]]] = {}
        for row in rows:
            if row["id"] in self._slices:
                slices.setdefault(self._slices[row["id"]][0], []).append(row)
        ids = [of[0]["id"].partition("#")[0] for of in slices.values()]
        for (path, of), name in zip(slices.items(), safe_file_names(ids), strict=True):
            grid = read_grid(path)
            expected = grid.size[self._slices[of[0]["id"]][1].axis]
            if len(of) < expected:
                print(
                    f"{expected - len(of)} of {expected} slices of '{name}' were left out"
                    " (datamodule.empty_slices=drop): its volume is background there"
                )
            maps = (
                {"": module.classes}
                if module.exclusive
                else {_prepare_folder(module.classes, each): (each,) for each in module.classes}
            )
            for subfolder, classes in maps.items():
                values = np.zeros(grid.size[::-1], np.uint8)
                for row in of:
                    axis, number = self._slices[row["id"]][1]
                    place = np.moveaxis(values, 2 - axis, 0)[number]
                    for k, each in enumerate(classes, start=1):
                        place[self._decode(row, each)] = k
                file = self.folder / "masks" / subfolder / f"{name}{file_suffix(path)}"
                write_volume(file, values, grid)

    def _decode(self, row: dict[str, Any], name: str) -> np.ndarray:
        """Return the mask of one class of a row, bool `H x W`."""
        height, width = self._sizes[row["id"]]
        rle = decode_siim([row[name]], height, width, self.rle_encoding == "relative")
        return decode_rle([rle], height, width)[..., 0].astype(bool)


def _slices_of(table: Any) -> dict[str, tuple[Path, SliceIndex]]:
    """Return volume and position of each row of a manifest that is a slice, by its id."""
    found = {}
    for row, (id, image) in enumerate(zip(table.rows["id"], table.rows["image"], strict=True)):
        index = table.slice_index(row)
        if index is not None:
            found[id] = Path(image), index
    return found


def _prepare_folder(classes: tuple[str, ...], name: str) -> str:
    return safe_file_names(list(classes))[classes.index(name)] if len(classes) > 1 else ""


def _summary_line(
    module: ClassificationModule, logits: Tensor, batch: Sample
) -> list[dict[str, Any]]:
    """Return probability and decision of each class, one row per image."""
    ids = np.array(batch["id"])
    labels = np.zeros((len(ids), len(module.classes)), np.uint8)  # unknown and not needed here
    rule = module.rule.values.numpy()[None].repeat(len(ids), axis=0)
    parts = {
        "ids": ids,
        "groups": ids,
        "rule": rule,
        "classes": module.classes,
        "logits": logits.float().cpu().numpy(),
        "labels": labels,
    }
    found = module.make_evidence(**parts)
    numbers = {
        f"probability {name}": found.probability[:, c] for c, name in enumerate(module.classes)
    }
    decisions = {
        f"says {name}": found.predicted[:, c].astype(int) for c, name in enumerate(module.classes)
    }
    table: list[Any] = pd.DataFrame({"id": ids} | numbers | decisions).to_dict("records")
    return table


@validated
class HardExampleScoreWriter(Callback):
    """Callback that writes the probability of every evaluated image to cls_prob.csv.

    `merge_fold_scores` merges the files of folds.

    Example:
        callbacks: {class_probabilities: {run_dir: "${paths.run}"}}

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: FilePath) -> None:
        self.run_dir = Path(run_dir)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse several classes, before training."""
        if isinstance(pl_module, EvaluatedModule) and (
            pl_module.target != "label" or len(pl_module.classes) != 1
        ):
            raise UserError(
                "class_probabilities needs a module with one binary class; remove it from"
                " callbacks=[...]"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table; after a fit it includes val, evaluated by the best weights."""
        if (
            not trainer.is_global_zero
            or trainer.fast_dev_run  # type: ignore[attr-defined]
            or not isinstance(pl_module, EvaluatedModule)
        ):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = data.table.rows.set_index("id")[["split", "outer_split"]]
        evaluated = [
            _evaluated_scores(evidence)
            for evidence in pl_module.evidence.values()
            if isinstance(evidence, ClassificationEvidence)
        ]
        table = rows.join(pd.concat(evaluated).groupby(level=0).first(), how="left").reset_index()
        pooled = (
            data.folds > 0 and data.fold_pool == "train_val"
        )  # other folds were then trained on the val images of this one
        val = np.where((table["outer_split"] == "train") | pooled, OUT_OF_FOLD, HELD_OUT)
        table["seen"] = np.select(
            [table["split"] == "train", table["split"] == "val"],
            [np.full(len(table), IN_SAMPLE), val],
            HELD_OUT,
        )
        hard_example_scores.write_scores(table.assign(split=table["outer_split"]), self.run_dir)


def _evaluated_scores(evidence: ClassificationEvidence) -> pd.DataFrame:
    return pd.DataFrame({"cls_prob": evidence.probability[:, 0]}, index=evidence.ids)
