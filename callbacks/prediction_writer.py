"""Writer of predictions: masks, tables, overlays, DICOM objects, annotations and their page."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import joblib
import numpy as np
from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import FilePath, NonNegativeInt, validated
from datamodules.base import ServingDataModule
from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.image_files import file_suffix, is_volume
from datamodules.formats.predicted_image import PredictedImage
from datamodules.formats.rle import decode_rle, decode_siim, encode_rle, encode_siim
from datamodules.formats.volumes import SliceIndex, read_grid, write_volume
from datamodules.image_size import ImageSize
from datamodules.loading.cache_builder import load_view
from datamodules.loading.dataset import Sample
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.manifest import SPLITS, get_crop, row_spacing
from datamodules.manifest.validation import BLANK_REASON
from datamodules.pneumothorax import write_siim_csv
from deployment.inference import LoadedImage, Prediction, decide, is_color_file
from deployment.prediction_progress import PredictionProgress, PredictionRecord
from deployment.result_files import (
    TABLE_FILE,
    ModelIdentity,
    ResultFiles,
    ResultOptions,
    describe_rule,
    table_header,
    table_row,
    write_left_out,
    write_table,
)
from deployment.trained_network import module_decision
from evaluation.logit_bins import bin_probability
from lightning_modules import checkpoint_io
from lightning_modules.base import EvaluatedModule
from lightning_modules.distributed import all_gather_lists
from lightning_modules.training_record import RECORD_KEY, find_seen_images
from reporting.live_run import identify_data
from reporting.overlays import fill_masks
from reporting.prediction_page import PredictedRow, PredictionPage, write_prediction_page
from reporting.report_data import package_versions
from reporting.run_folder import RunFolder
from reporting.task_view import page_heading
from reporting.training_images import TrainingImages, collect_images

MAX_CLASSES = 255  # values of a gray pixel beside the background
PICTURE_SIDE = 400  # longest side of a picture on the page, in pixels
MAX_THREADS = 8  # that write files
AnnotationFormat = Literal["coco", "cvat", "label_studio"]


@validated
class PredictionWriter(Callback):
    """Callback that writes `predictions/` in do=[predict].

    `predictions.csv` has a row per image: probability, decision, area, components. Masks follow the
    decision rule in force and have each image's own size: `masks/*.png`, and as run lengths in
    `submission.csv`. `overlays/*.png` show their outlines on the image, and `predictions.html`
    summarizes all of it with pictures. With several classes, each has its own folder and CSV.
    Exclusive classes have one PNG per image for all of them, a class map, whose values
    `masks/values.csv` names: 0 is the background, k the k-th class. The slices of a volume become
    one volume of its format on its grid. Files that cannot be read are in all tables, with the
    reason in a column `problem`.

    Images are written as they are predicted. With `resume`, a prediction that was interrupted goes
    on in its folder where it stopped.

    Example:
        callbacks: {predictions: {run_dir: "${paths.run}", probability_maps: true}}

    Args:
        run_dir: The run folder.
        title: Name of the run on the page.
        masks: True to write mask PNGs.
        probability_maps: True to write PNGs of 16 bits, in which 65535 is the probability 1.
        overlays: True to write images with the outlines of their masks.
        rle_encoding: `relative` for RLE pairs of gap and length, as in the SIIM-ACR competition;
            `absolute` for start and length.
        annotations: Formats of files that annotation tools read, to correct the masks.
        dicom: DICOM objects of images that are DICOMs: `seg` for a segmentation, `report` for a
            structured report of the probabilities.
        min_component: Connected components of a mask with fewer pixels are removed; 0 keeps all.
        pictures: Number of pictures of each kind on the page; 0 for none.
        resume: `auto` to continue a prediction that was interrupted.
    """

    def __init__(
        self,
        run_dir: FilePath,
        title: str = "predictions",
        masks: bool = True,
        probability_maps: bool = False,
        overlays: bool = True,
        rle_encoding: Literal["relative", "absolute"] = "relative",
        annotations: Sequence[AnnotationFormat] = (),
        dicom: Sequence[Literal["seg", "report"]] = (),
        min_component: NonNegativeInt = 0,
        pictures: NonNegativeInt = 12,
        resume: Literal["auto"] | None = None,
    ) -> None:
        if dicom:  # refused before any image is read
            from deployment.dicom_objects import import_highdicom

            import_highdicom("callbacks.predictions.dicom")
        self.folder = Path(run_dir) / "predictions"
        self.title = title
        self.options = ResultOptions(
            masks=masks,
            probability_maps=probability_maps,
            overlays=overlays,
            dicom=tuple(dicom),
        )
        self.relative = rle_encoding == "relative"
        self.annotations = tuple(annotations)
        self.min_component = min_component
        self.pictures = pictures
        self.resume = resume == "auto"
        self.checkpoints: list[Path] = []  # whose weights predict; set by the runner
        self._records: dict[str, PredictionRecord] = {}
        self._writing: list[tuple[Future[None], PredictionRecord]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave out the images that an interrupted prediction has finished.

        Raises:
            UserError: The folder holds a prediction with other settings, or a class map cannot hold
                so many exclusive classes.
        """
        if stage != "predict" or not isinstance(pl_module, EvaluatedModule):
            return
        self._check_classes(pl_module)
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._checkpoint_digests = [hash_file(path) for path in self.checkpoints]
        self._progress = PredictionProgress(self.folder, self._settings(pl_module, data))
        kept: dict[str, PredictionRecord] = {}
        if self.resume:
            kept = self._progress.load(_digests(data))
            # each process needs an image, or Lightning would skip the end of the prediction
            last = data.rows_to_predict(())[-trainer.world_size :].tolist()
            for id in data.table.rows["id"].iloc[last]:
                kept.pop(str(id), None)
            if kept and trainer.is_global_zero:
                print(f"{len(kept):,} images are predicted already; the others follow")
        data.predicted_ids = frozenset(kept)
        self._records = dict(kept) if trainer.is_global_zero else {}
        trainer.strategy.barrier("the progress of all processes is read")
        if trainer.is_global_zero:
            self._progress.start(0, self._records.values())
            self._progress.remove_others()
        trainer.strategy.barrier("the first process has the progress of all")
        if not trainer.is_global_zero:
            self._progress.start(trainer.global_rank, ())

    def _settings(self, module: EvaluatedModule, data: ServingDataModule) -> dict[str, Any]:
        """Return everything beside the images that the predictions depend on."""
        window = data.current_window().as_state if data.cache.deep.any() else None
        return {
            "checkpoints": self._checkpoint_digests,
            "image_size": data.current_image_size().as_config,
            "window": window,
            "tta": getattr(module.net, "tta", "none"),
            "min_component": self.min_component,
            "dicom": list(self.options.dicom),
            "probability_maps": self.options.probability_maps,
            "overlays": self.options.overlays,
            "rle_encoding": "relative" if self.relative else "absolute",
        }

    def _check_classes(self, module: EvaluatedModule) -> None:
        maps = module.target == "mask" and getattr(module, "exclusive", False)
        if maps and self.options.masks and len(module.classes) > MAX_CLASSES:
            raise UserError(
                f"a class map holds at most {MAX_CLASSES} classes, and module.classes names"
                f" {len(module.classes)}; set callbacks.predictions.masks=false"
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect each image's place in the table, and the rule in force."""
        if not isinstance(pl_module, EvaluatedModule):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._data, self._window = data, data.display_window()
        ids = data.table.rows["id"].tolist()
        self._rows = {id: row for row, id in enumerate(ids)}
        self._sizes = np.asarray(data.cache.sizes)
        self._hashes = _digests(data)
        self._decision = module_decision(pl_module)
        self._slices = _slices_of(data.table)
        identity = ModelIdentity.from_checkpoints(
            self._run_title(),
            package_versions("medical-lightning"),
            self._checkpoint_digests,
            self._trained_on_phantoms(),
        )
        self._files = ResultFiles(self.folder, self._decision, ids, self.options, identity)
        self._pool = ThreadPoolExecutor(min(MAX_THREADS, joblib.cpu_count()))

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Convert the logits of a batch to masks or labels; write them during the next one."""
        if not isinstance(pl_module, EvaluatedModule):
            return
        logits = outputs.float().cpu().numpy()
        seconds = (time.perf_counter() - self._began) / max(1, len(batch["id"]))
        self._finish_batch()
        canvas = ImageSize(*batch["image"].shape[-2:])
        for id, own in zip(batch["id"], logits, strict=True):
            row = self._rows[id]
            height, width = self._sizes[row].tolist()
            box = Letterbox(height, width, canvas)
            image = LoadedImage(id, np.empty(0), box, row_spacing(self._data.table, row), False)
            prediction = decide(image, own, self._decision, self.min_component)
            record = self._make_record(prediction, row, seconds)
            self._writing.append((self._pool.submit(self._write, prediction, row), record))

    def _make_record(self, prediction: Prediction, row: int, seconds: float) -> PredictionRecord:
        rles = {}
        if prediction.masks is not None:
            rles = {
                name: encode_siim(mask.astype(np.uint8), self.relative)
                for name, mask in zip(self._decision.classes, prediction.masks, strict=True)
            }
        return PredictionRecord(
            digest=self._hashes[prediction.id],
            height=prediction.height,
            width=prediction.width,
            row=PredictedRow(
                id=prediction.id,
                probability=prediction.probability,
                positive=prediction.positive,
                area=prediction.area,
                area_mm2=prediction.area_mm2,
                components=len(prediction.boxes),
                margin=self._margin(prediction),
            ),
            cells=table_row(prediction, self._files.names[prediction.id], seconds),
            rles=rles,
            from_color=self._is_converted(row),
        )

    def _is_converted(self, row: int) -> bool:
        """Return True for a color image that the network sees in gray."""
        table = self._data.table
        path = Path(str(table.rows["image"].iat[row]))
        return self._data.channels == 1 and not is_volume(path) and is_color_file(path)

    def _margin(self, prediction: Prediction) -> float:
        """Return how far the decision is from another one; see `PredictedRow`."""
        values = sorted(prediction.probability.values(), reverse=True)
        if self._decision.exclusive and self._decision.target == "label":
            return values[0] - values[1]
        thresholds = image_thresholds(self._decision)
        distances = [
            probability - (0.5 if (limit := thresholds[name]) is None else limit)
            for name, probability in prediction.probability.items()
        ]
        return min(distances, key=abs)

    def _write(self, prediction: Prediction, row: int) -> None:
        """Write the files of one image; the slices of a volume have none of their own."""
        table = self._data.table
        path = Path(str(table.rows["image"].iat[row]))
        if prediction.id in self._slices:
            return
        whole = not (table.channel_files(row) or get_crop(table, row))
        self._files.write(prediction, path, partial(self._shown, row), with_dicom=whole)

    def _shown(self, row: int) -> np.ndarray:
        """Return an image as it is displayed, uint8 `H x W x C`."""
        source = load_view(self._data.table, row, self._data.channels)
        shown = source.to_uint8(self._window)
        return shown if shown.shape[2] in (1, 3) else shown[..., :1]

    def _finish_batch(self) -> None:
        """Wait for the files of the batch before, and record its images as finished."""
        writing, self._writing = self._writing, []
        finished = []
        for future, record in writing:
            future.result()
            finished.append(record)
        self._progress.add(finished)
        self._records |= {record.id: record for record in finished}

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Print the command that continues an interrupted prediction."""
        if not trainer.predicting or not hasattr(self, "_pool"):
            return
        self._pool.shutdown(cancel_futures=True)
        if trainer.is_global_zero and self._records:
            print(
                f"{len(self._records):,} images are predicted and stay in {self.folder}; the same"
                f" command with hydra.run.dir={self.folder.parent} resume=auto predicts the others"
            )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the tables and the page of the images of all processes."""
        if not isinstance(pl_module, EvaluatedModule):
            return
        self._finish_batch()
        self._pool.shutdown()
        (records,) = all_gather_lists(list(self._records.values()))
        if trainer.is_global_zero and records:
            records.sort(key=lambda record: self._rows[record.id])
            self._write_tables(records)
            self._write_page(trainer, pl_module, records)
            self._progress.remove()
            self._print_summary(records)
        self._data.predicted_ids = frozenset()

    def _write_tables(self, records: Sequence[PredictionRecord]) -> None:
        data = self._data
        splits = None
        if len(data.predict_splits) > 1:  # the split shows which images were trained on
            splits = dict(zip(data.table.rows["id"], data.table.rows["split"], strict=True))
        write_table(
            self.folder / TABLE_FILE,
            table_header(self._decision),
            [record.cells for record in records],
            splits,
            data.unreadable,
        )
        left_out = {str(path): reason for path, reason in data.passed_over.items()}
        left_out |= {str(path): reason for path, reason in self._files.without_object}
        if left_out or data.unreadable:
            images = data.table.rows.set_index("id")["image"]
            unreadable = {str(images[id]): reason for id, reason in data.unreadable.items()}
            write_left_out(self.folder, [*left_out.items(), *unreadable.items()])
        if self._decision.target == "mask":
            self._write_run_lengths(records)
            if self.options.masks:
                self._write_volumes(records)
                self._files.write_values()
        self._write_annotations(records)

    def _write_run_lengths(self, records: Sequence[PredictionRecord]) -> None:
        """Write submission.csv; each of several classes has its own in its folder."""
        several = len(self._decision.classes) > 1
        folders = self._files.class_folders
        for name, subfolder in zip(self._decision.classes, folders, strict=True):
            table = self.folder / (subfolder if several else "") / "submission.csv"
            table.parent.mkdir(exist_ok=True)
            texts = {record.id: record.rles[name] for record in records}
            write_siim_csv(table, texts, self._data.unreadable)

    def _write_annotations(self, records: Sequence[PredictionRecord]) -> None:
        from datamodules.formats.coco import write_coco
        from datamodules.formats.cvat import write_cvat
        from datamodules.formats.label_studio import labeling_config, write_label_studio

        writers: dict[str, tuple[Callable[..., Any], str]] = {
            "coco": (write_coco, "annotations.coco.json"),
            "cvat": (write_cvat, "annotations.xml"),
            "label_studio": (write_label_studio, "tasks.json"),
        }
        classes = self._decision.classes
        for name in self.annotations:
            write, file = writers[name]
            path = self.folder / "annotations" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, self._predicted_images(records), classes)
            if name == "label_studio":  # the interface of the project that takes the tasks
                text = labeling_config(classes)
                path.with_name("labeling_config.xml").write_text(text, encoding="utf-8")

    def _predicted_images(self, records: Sequence[PredictionRecord]) -> Iterator[PredictedImage]:
        """Yield the images for annotation files, with their paths below the folder of the data."""
        root = self._data.root.expanduser().resolve()
        labels = self._decision.target == "label"
        for record in records:
            path = Path(str(self._data.table.rows["image"].iat[self._rows[record.id]])).resolve()
            file = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            masks: dict[str, Any] = {}
            for name in record.rles:
                rle = encode_rle(self._mask(record, name)[..., None])[0]
                masks |= {} if rle is None else {name: rle}
            yield PredictedImage(
                file.as_posix(),
                record.height,
                record.width,
                masks,
                record.row.probability,
                [name for name, shown in record.row.positive.items() if shown] if labels else (),
            )

    def _mask(self, record: PredictionRecord, name: str) -> np.ndarray:
        """Return the mask of one class, uint8 `H x W`."""
        rle = decode_siim([record.rles[name]], record.height, record.width, self.relative)
        return decode_rle([rle], record.height, record.width)[..., 0]

    def _write_volumes(self, records: Sequence[PredictionRecord]) -> None:
        """Write the masks of all slices of each volume, from the run lengths of all processes."""
        slices: dict[Path, list[PredictionRecord]] = {}
        for record in records:
            if record.id in self._slices:
                slices.setdefault(self._slices[record.id][0], []).append(record)
        decision, folders = self._decision, self._files.class_folders
        several = len(decision.classes) > 1
        maps = (
            {"": decision.classes}
            if decision.exclusive or not several
            else {folder: (name,) for folder, name in zip(folders, decision.classes, strict=True)}
        )
        names = safe_file_names([own[0].id.partition("#")[0] for own in slices.values()])
        for (path, own), name in zip(slices.items(), names, strict=True):
            grid = read_grid(path)
            axis = self._slices[own[0].id][1].axis
            if len(own) < grid.size[axis]:
                print(
                    f"{grid.size[axis] - len(own)} of {grid.size[axis]} slices of '{name}' were"
                    " left out (datamodule.empty_slices=drop): its volume is background there"
                )
            for subfolder, classes in maps.items():
                values = np.zeros(grid.size[::-1], np.uint8)
                for record in own:
                    _, number = self._slices[record.id][1]
                    place = np.moveaxis(values, 2 - axis, 0)[number]
                    for k, each in enumerate(classes, start=1):
                        place[self._mask(record, each) > 0] = k
                file = self.folder / "masks" / subfolder / f"{name}{file_suffix(path)}"
                write_volume(file, values, grid)

    def _write_page(
        self, trainer: Trainer, module: EvaluatedModule, records: Sequence[PredictionRecord]
    ) -> None:
        about = identify_data(self._data)
        by_id = {record.id: record for record in records}
        page = PredictionPage(
            title=self.title,
            heading=page_heading(module.target, module.classes, about),
            phantom=about["phantom"],
            facts=self._facts(trainer, module, records),
            classes=self._decision.classes,
            is_mask=self._decision.target == "mask",
            thresholds=image_thresholds(self._decision),
            missing=self._data.unreadable,
        )
        rows = [record.row for record in records]
        write_prediction_page(
            page, rows, lambda row: self._draw(by_id[row.id]), self.pictures, self.folder
        )

    def _facts(
        self, trainer: Trainer, module: EvaluatedModule, records: Sequence[PredictionRecord]
    ) -> dict[str, str]:
        """Return what a reader of the page must know about the images and the network."""
        data, size = self._data, self._data.current_image_size()
        lost = len(data.unreadable)
        missing = f"; {_count(lost, 'file')} cannot be read" if lost else ""
        facts = {
            "images": f"{len(records):,} of {data.root}{missing}",
            "network": ", ".join(map(str, self.checkpoints)) or "not known",
            "rule": describe_rule(self._decision),
            "inference": f"precision {trainer.precision}, images of {size} px",
            "time": f"{median(float(record.cells[-1]) for record in records):.2g} s per image, the"
            " median",
        }
        tta = getattr(module.net, "tta", "none")
        facts["inference"] += f", mean of the views tta={tta}" if tta != "none" else ""
        if self.min_component > 1:
            facts["left out of masks"] = (
                f"components below {self.min_component} px, which were not removed when the rule"
                " was searched and the network was tested"
            )
        converted = sum(record.from_color for record in records)
        if converted:
            facts["color"] = f"{_count(converted, 'color image')} converted to gray"
        if data.passed_over:
            facts["passed over"] = (
                f"{_count(len(data.passed_over), 'file')} without an image, listed in left_out.csv"
            )
        if self._trained_on_phantoms():
            facts["trained on"] = "computer-drawn phantoms: the network has seen no real image"
        seen = self._describe_seen()
        return facts | ({"seen in training": seen} if seen else {})

    def _run_title(self) -> str:
        """Return the title of the run whose network predicts; this command's if it is unknown."""
        run = RunFolder(self.checkpoints[0].parent.parent) if self.checkpoints else None
        return str(run.config.get("title") or self.title) if run is not None else self.title

    def _trained_on_phantoms(self) -> bool | None:
        """Return True if the network has only seen synthetic images; None if that is not known."""
        run = RunFolder(self.checkpoints[0].parent.parent) if self.checkpoints else None
        if run is None or not run.has_report:
            return None
        return bool((run.report.get("data") or {}).get("phantom"))

    def _describe_seen(self) -> str:
        """Say how many of the images the network was trained on; empty if it is not known."""
        if not self.checkpoints:
            return ""
        record = checkpoint_io.read_metadata(self.checkpoints[0]).get(RECORD_KEY)
        if record is None:
            return "not known, because the checkpoint does not record its training images"
        found = find_seen_images(record, self._data, SPLITS)
        files = [] if found is None else found.ids
        learned = TrainingImages.read(self.checkpoints[0].parent.parent)
        images = collect_images(self._data)
        similar = [] if learned is None else learned.near_duplicates_of(images)
        others = len({pair.first for pair in similar} - set(files))
        known = "" if learned is not None else "; near duplicates are not known"
        if not files and not others:
            return f"none of these images{known}"
        return (
            f"{len(files):,} of {len(images.rows):,} images were trained on, or the network was"
            f" chosen by them, and {others:,} more nearly equal such an image{known}; their"
            " predictions say nothing about new images"
        )

    def _draw(self, record: PredictionRecord) -> np.ndarray:
        """Return the picture of an image with its masks, BGR."""
        shown = self._shown(self._rows[record.id])
        scale = min(1.0, PICTURE_SIDE / max(shown.shape[:2]))
        size = max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale))
        small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
        gray = small.ndim == 2
        picture = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_RGB2BGR)
        masks = [
            cv2.resize(self._mask(record, name), size, interpolation=cv2.INTER_NEAREST)
            for name in record.rles
        ]
        return fill_masks(picture, masks, opacity=0.2) if masks else picture

    def _print_summary(self, records: Sequence[PredictionRecord]) -> None:
        print(f"predictions of {_count(len(records), 'image')}: {self.folder}")
        for id, reason in self._data.unreadable.items():
            print(f"no prediction of '{id}': {reason}")
        if self._data.passed_over:
            passed_over = _count(len(self._data.passed_over), "file")
            print(f"{passed_over} without an image passed over, see left_out.csv")
        converted = sum(record.from_color for record in records)
        if converted:
            print(f"{_count(converted, 'color image')} converted to gray")
        if self._files.without_film:
            print(
                f"no DICOM objects for {_count(self._files.without_film, 'image')} of other formats"
            )
        blank = self._data.cleaning.as_dict().get(BLANK_REASON)
        if blank:
            print(f"{blank['count']} times {BLANK_REASON}: {', '.join(blank['examples'])}")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + "s" * (number != 1)


def image_thresholds(decision: Any) -> dict[str, float | None]:
    """Return the probability from which on an image shows each class; None for exclusive ones."""
    if decision.exclusive:
        return dict.fromkeys(decision.classes)
    found: dict[str, float | None] = {}
    for name, (first, min_area, last) in zip(decision.classes, decision.rule, strict=True):
        if decision.target == "label":
            found[name] = float(first)
        else:  # without a smallest area, a mask is empty only if no pixel reaches the lower one
            found[name] = float(bin_probability(first if min_area else last))
    return found


def _digests(data: ServingDataModule) -> Mapping[str, str]:
    """Return the SHA-256 of each image's file, by its id."""
    digests = np.char.decode(np.asarray(data.cache.digests), "ascii").tolist()
    return dict(zip(data.table.rows["id"].astype(str), digests, strict=True))


def _slices_of(table: Any) -> dict[str, tuple[Path, SliceIndex]]:
    """Return volume and position of each row of a manifest that is a slice, by its id."""
    found = {}
    for row, (id, image) in enumerate(zip(table.rows["id"], table.rows["image"], strict=True)):
        index = table.slice_index(row)
        if index is not None:
            found[id] = Path(image), index
    return found
