"""BS-80K bone scans: label files, boxes, patients, views."""

import codecs
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from datamodules.arguments import FilePath, NonNegativeFloat, NonNegativeInt, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import ManifestError, UserError
from datamodules.formats.file_content import read_bytes
from datamodules.formats.file_hash import hash_file
from datamodules.formats.image_files import is_image_file, is_junk
from datamodules.formats.voc import Corners, fit_to_image, read_voc
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.manifest import SPLITS, Manifest
from datamodules.manifest.validation import CleaningReport, check_ground_truth
from datamodules.sampling.strata import NO_LESION

LABEL_VALUES = {"0": 0, "1": 1}


@dataclass
class BoneScanLabels:
    """Content of a label file.

    Attributes:
        by_file: Label 0 or 1 of each image file name, in the order of the label file.
        line_numbers: Number (from 1) of the line that first names each image file.
        n_blank: Number of empty lines.
        repeated: File names that occur again with the same label.
    """

    by_file: dict[str, int] = field(default_factory=dict)
    line_numbers: dict[str, int] = field(default_factory=dict)
    n_blank: int = 0
    repeated: list[str] = field(default_factory=list)


def read_bone_labels(path: Path) -> BoneScanLabels:
    """Read a label file; line endings of any system are accepted.

    The encoding is UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        ManifestError: The file is unreadable or has no label; or a line has no tab, no name, a
            label other than 0 and 1, or a label that contradicts an earlier line.
    """
    labels = BoneScanLabels()
    for number, line in enumerate(io.StringIO(_read_label_text(path), newline=None), start=1):
        if not line.strip():
            labels.n_blank += 1
            continue
        name, label = _parse_label_line(path, number, line.strip(" \r\n"))
        if labels.by_file.setdefault(name, label) != label:
            first = (
                f"is {labels.by_file[name]} in line {labels.line_numbers[name]} and {label} in line"
                f" {number}"
            )
            raise ManifestError(
                f"{path}: the label of '{name}' {first}; remove the line that is wrong"
            )
        if labels.line_numbers.setdefault(name, number) != number:
            labels.repeated.append(name)
    if not labels.by_file:
        raise ManifestError(
            f"{path} holds no label; write one line an image, such as '1.jpg<TAB>0', or restore the"
            " file"
        )
    return labels


def _parse_label_line(path: Path, number: int, line: str) -> tuple[str, int]:
    if "\t" not in line:
        raise ManifestError(
            f"line {number} of {path} has no tab ('{line[:60]}'); write the image's name, a tab,"
            " and 0 or 1"
        )
    name, label = (part.strip() for part in line.split("\t", 1))
    if not name:
        raise ManifestError(
            f"line {number} of {path} names no image before its tab; write the image's name there,"
            " or remove the line"
        )
    if label not in LABEL_VALUES:
        raise ManifestError(
            f"line {number} of {path} labels '{name}' as '{label[:60]}'; write 0 for normal or 1"
            " for abnormal"
        )
    return name, LABEL_VALUES[label]


def _read_label_text(path: Path) -> str:
    data = read_bytes(path, fix="save it as UTF-8, or restore the file")
    try:
        return data.decode(
            "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} cannot be read as text ({error}); save it as UTF-8, or restore the file"
        ) from error


def check_patients(identical: Sequence[Sequence[int]]) -> list[list[str]]:
    """Check the lists of patient numbers that are one person, and return them as strings.

    Raises:
        UserError: An entry is not a list of two or more numbers.
    """
    for together in identical:
        numbers = (
            list(together)
            if isinstance(together, Sequence) and not isinstance(together, str)
            else []
        )
        if len(numbers) < 2 or not all(isinstance(number, int) for number in numbers):
            raise UserError(
                f"datamodule.identical holds {together}, which is not a list of two or more patient"
                " numbers; write [[828, 2244], ...], or []"
            )
    return [[str(number) for number in together] for together in identical]


def group_patients(numbers: Iterable[str], same_patient: Iterable[Sequence[str]]) -> dict[str, str]:
    """Map each patient number to its group, which for most patients is the number itself.

    Numbers that are connected by lists in `same_patient` share the lowest of these numbers.
    """
    groups: list[set[str]] = []
    for connected in map(set, same_patient):
        for other in [group for group in groups if group & connected]:
            connected |= other
            groups.remove(other)
        groups.append(connected)
    present = set(numbers)
    group_of = {number: number for number in present}
    for group in groups:
        members = group & present
        group_of |= dict.fromkeys(
            members, min(members, key=lambda number: (len(number), number), default="")
        )
    return group_of


def find_identical_scans(rows: pd.DataFrame, cleaning: CleaningReport) -> list[list[str]]:
    """Find patient numbers that share an identical file; only files of equal size are read.

    Args:
        rows: Table with the columns `id`, `image` and `number`.
        cleaning: Report to which the number of copies is added.
    """
    size = rows["image"].map(lambda path: Path(path).stat().st_size)
    alike = rows[size.groupby(size).transform("size") > 1]
    digest = alike["image"].map(lambda path: hash_file(Path(path)))
    twice = digest.duplicated(keep=False)
    found = []
    for _, same in alike[twice].groupby(digest[twice], sort=False):
        numbers = same["number"].drop_duplicates()
        if len(numbers) > 1:
            found.append(numbers.tolist())
            for id in same["id"].iloc[1:]:
                cleaning.count(
                    "scan that is a copy of another patient's: they count as one patient", id
                )
    return found


def patient_strata(rows: pd.DataFrame) -> pd.Series:
    """Return for each row the abnormal views of its group, such as `1_ANT_POST`.

    A split that is stratified by it contains every kind in proportion.

    Args:
        rows: Table with the columns `group`, `view` and `label`.
    """
    abnormal = (
        rows[rows["label"] == 1]
        .groupby("group")["view"]
        .agg(lambda views: "_".join(["1", *sorted(set(views))]))
    )
    return rows["group"].map(abnormal).fillna(NO_LESION)


BOX_COLUMNS = {"abnormal": "boxes", "normal": "physiological"}  # by an object's name in lower case
BoxesByColumn = dict[str, list[list[float]]]


@dataclass(frozen=True)
class BoneScanBoxReader:
    """Reader of the boxes of each image: `wholeBodyANT/ant/1.xml` for `wholeBodyANT/1.jpg`.

    Attributes:
        tolerance: Pixels by which a box may reach beyond its image; it is cut off at the border.
        on_error: Action for a file that cannot be used: `refuse`, or `drop`, which leaves its image
            without information about boxes.
        cleaning: Report of what was cut, left out or unusual.
    """

    tolerance: float
    on_error: str
    cleaning: CleaningReport

    def read_columns(self, rows: pd.DataFrame) -> dict[str, pd.Series]:
        """Return the columns `boxes` and `physiological`; None where an image has no usable XML.

        Each cell is a list of [x1, y1, x2, y2] in the image's own pixels.

        Args:
            rows: Table with the columns `id`, `image`, `view`, `label`, `height` and `width`.

        Raises:
            ManifestError: A file cannot be used and `on_error` is not `drop`.
        """
        found = [self._read_or_drop(*row) for row in self._iter_annotation_files(rows)]
        return {
            name: pd.Series([boxes and boxes[name] for boxes in found], rows.index, dtype=object)
            for name in BOX_COLUMNS.values()
        }

    def _iter_annotation_files(
        self, rows: pd.DataFrame
    ) -> Iterator[tuple[str, Path | None, int, int, int]]:
        """Yield id, XML file, label, height and width of every row; count XMLs without an image."""
        files: dict[str, dict[str, Path]] = {}
        images = [Path(image) for image in rows["image"]]
        for folder, view in {
            str(image.parent): view for image, view in zip(images, rows["view"], strict=True)
        }.items():
            files[folder] = _list_xml_files(Path(folder), view)
            for stem in sorted(
                files[folder].keys()
                - {image.stem for image in images if str(image.parent) == folder}
            ):
                self.cleaning.count(
                    "XML without its image: left out", f"{Path(folder).name}/{stem}.xml"
                )
        numbers = zip(rows["label"], rows["height"], rows["width"], strict=True)
        for id, image, (label, height, width) in zip(rows["id"], images, numbers, strict=True):
            yield id, files[str(image.parent)].get(image.stem), label, height, width

    def _read_or_drop(
        self, id: str, path: Path | None, label: int, height: int, width: int
    ) -> BoxesByColumn | None:
        if path is None:
            self.cleaning.count("image without an XML: its boxes are unknown", id)
            return None
        try:
            boxes = self._read_boxes(id, path, height, width)
        except ManifestError as error:
            if self.on_error == "refuse":
                raise ManifestError(
                    f"{error}, or continue without such files by datamodule.bad_boxes=drop"
                ) from error
            self.cleaning.count("XML that cannot be used: the boxes of its image are unknown", id)
            return None
        if bool(boxes["boxes"]) != bool(label):
            kind = (
                "abnormal image without an Abnormal box"
                if label
                else "normal image with an Abnormal box"
            )
            self.cleaning.count(f"{kind}: the label is used", id)
        return boxes

    def _read_boxes(self, id: str, path: Path, height: int, width: int) -> BoxesByColumn:
        voc = read_voc(path)
        if voc.size not in (None, (height, width)):
            mismatch = (
                f"says that its image has {voc.size[0]} x {voc.size[1]} pixels, and '{id}' has"
                f" {height} x {width}"
            )
            raise ManifestError(
                f"{path} {mismatch}; take image and XML from the same export, or remove the file"
            )
        boxes: BoxesByColumn = {name: [] for name in BOX_COLUMNS.values()}
        for name, corners in voc.objects:
            inside = fit_to_image(voc, corners, height, width, self.tolerance)
            if inside != corners:
                self.cleaning.count("box that extends beyond its image: cut off at the border", id)
            column = BOX_COLUMNS.get(name.lower())
            if column is None:
                self.cleaning.count(
                    "box that is named neither Normal nor Abnormal: left out", f"{id} {name}"
                )
            elif not _has_area(inside):
                self.cleaning.count("box without an area: left out", id)
            else:
                boxes[column].append(list(inside))
        return boxes


def _list_xml_files(folder: Path, view: str) -> dict[str, Path]:
    """Map file stems to the XMLs in the subfolder that is named after the view in lower case."""
    subfolder = folder / view.lower()
    files = sorted(subfolder.iterdir()) if view and subfolder.is_dir() else []
    return {
        path.stem: path for path in files if path.suffix.lower() == ".xml" and not is_junk(path)
    }


def _has_area(corners: Corners) -> bool:
    x1, y1, x2, y2 = corners
    return x2 > x1 and y2 > y1


INDEX_COLUMNS = ("id", "folder", "image", "part", "side", "view", "number", "label")
FOLDER_NAME_PATTERN = re.compile(
    r"(?P<part>.+?)(?:(?P<side>[LR])?(?P<view>ANT|POST))?"
)  # kneeLANT, headPOST, vertbra
BODY_PARTS = {
    name: name
    for name in (
        "ankle",
        "chest",
        "elbow",
        "head",
        "knee",
        "pelvis",
        "shoulder",
        "vertebra",
        "wholeBody",
    )
}
BODY_PARTS |= {"sho": "shoulder", "vertbra": "vertebra"}  # as the published folders are spelled


def parse_folder_name(name: str) -> tuple[str, str, str]:
    """Split a folder's name into part, side (L, R or empty) and view (ANT, POST or empty).

    An unknown part keeps its spelling.
    """
    found = FOLDER_NAME_PATTERN.fullmatch(name)
    part, side, view = (
        (found["part"], found["side"] or "", found["view"] or "") if found else (name, "", "")
    )
    return BODY_PARTS.get(part, part), side, view


def build_index(root: Path, unmatched: str, cleaning: CleaningReport) -> pd.DataFrame:
    """List every labelled image below `root`, one row each.

    Folders are in the order of their names, images in that of their label file.

    Args:
        root: Folder that holds them; subfolders without a label file of their own name are ignored.
        unmatched: Action for labels without an image and images without a label: `refuse`, or
            `drop`.
        cleaning: Report of what was dropped or unusual.

    Returns:
        A table with INDEX_COLUMNS: `id` is "folder/file", `number` is the patient's number (the
        file's stem without leading zeros). All columns but `label` are strings.

    Raises:
        ManifestError: There is no such folder, a label file cannot be used, or unmatched files are
            refused.
    """
    folders = _labeled_folders(root)
    if not folders:
        deeper = next((folder for folder in _subfolders(root) if _labeled_folders(folder)), None)
        raise ManifestError(
            f"{root} has no folder that holds a .txt of its own name, such as"
            f" wholeBodyPOST/wholeBodyPOST.txt{f' (but {deeper} has)' if deeper else ''}; set"
            " datamodule.root to the folder that holds them"
        )
    columns = zip(*(_index_columns(folder, unmatched, cleaning) for folder in folders), strict=True)
    return pd.DataFrame(
        {name: list(chain(*parts)) for name, parts in zip(INDEX_COLUMNS, columns, strict=True)}
    )


def _subfolders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        folders = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    return [folder for folder in folders if not is_junk(folder)]


def _labeled_folders(root: Path) -> list[Path]:
    return [folder for folder in _subfolders(root) if (folder / f"{folder.name}.txt").is_file()]


def _index_columns(folder: Path, unmatched: str, cleaning: CleaningReport) -> Sequence[list[Any]]:
    """Return the INDEX_COLUMNS of one folder."""
    file = folder / f"{folder.name}.txt"
    labels = read_bone_labels(file)
    _count_irregularities(folder.name, labels, cleaning)
    names = _match_files(file, labels, unmatched, cleaning)
    n, place = len(names), f"{folder}{os.sep}"
    part, side, view = parse_folder_name(folder.name)
    numbers = [_patient_number(name) for name in names]
    ids, paths = [f"{folder.name}/{name}" for name in names], [place + name for name in names]
    return (
        ids,
        [folder.name] * n,
        paths,
        [part] * n,
        [side] * n,
        [view] * n,
        numbers,
        [labels.by_file[name] for name in names],
    )


def _patient_number(name: str) -> str:
    stem = name.rpartition(".")[0] or name
    return stem.lstrip("0") or "0"


def _count_irregularities(folder: str, labels: BoneScanLabels, cleaning: CleaningReport) -> None:
    part, _, view = parse_folder_name(folder)
    if part not in BODY_PARTS.values():
        cleaning.count(
            "folder of a body part that BS-80K does not have: indexed by its own name", folder
        )
    if not view:
        cleaning.count("folder whose name has no view, ANT or POST: indexed without one", folder)
    for _ in range(labels.n_blank):
        cleaning.count("blank line in a label file: skipped", f"{folder}/{folder}.txt")
    for name in labels.repeated:
        cleaning.count(
            "image that its label file names twice with the same label: used once",
            f"{folder}/{name}",
        )


def _match_files(
    file: Path, labels: BoneScanLabels, unmatched: str, cleaning: CleaningReport
) -> list[str]:
    """Return the names that are both in the label file and in its folder."""
    with os.scandir(file.parent) as entries:
        files = {entry.name for entry in entries if entry.is_file()}
    missing = [name for name in labels.by_file if name not in files]
    if missing and unmatched == "refuse":
        problem = (
            f"{file} names {len(missing)} images that are not in its folder, such as"
            f" '{missing[0]}' in line {labels.line_numbers[missing[0]]}"
        )
        raise ManifestError(f"{problem}; restore them, or set datamodule.unmatched=drop")
    others = sorted(files - labels.by_file.keys() - {file.name})
    strays = [name for name in others if is_image_file(file.parent / name)]
    if strays and unmatched == "refuse":
        problem = f"{file} does not name {len(strays)} images of its folder, such as '{strays[0]}'"
        raise ManifestError(
            f"{problem}; add a line for each, such as '{strays[0]}<TAB>0', or set"
            " datamodule.unmatched=drop"
        )
    ignored = sorted(set(others) - set(strays))
    for reason, names in (
        ("label without its image: left out", missing),
        ("image without a label: left out", strays),
        ("file that is not an image: left out", ignored),
    ):
        for name in names:
            cleaning.count(reason, f"{file.parent.name}/{name}")
    return [name for name in labels.by_file if name in files]


FOLDER_VIEWS = {"POST": ("POST",), "ANT": ("ANT",), "both": ("ANT", "POST")}
DUPLICATE_PATIENTS = (
    (828, 2244),
    (312, 570),
    (831, 3216),
    (832, 3245),
)  # pairs of numbers that BS-80K gives to the same patient


@validated
class BoneScanDataModule(ManifestDataModule):
    """Bone scans of BS-80K: one row per scan of one body part in the chosen view, with boxes.

    The split is made over both views of all patients before the rows of the chosen view are
    selected, so ANT, POST and both share one split: a patient that one network was trained on is
    never in the test set of another.

    Args:
        view: `POST`, `ANT`, or `both` for two images per patient.
        part: The body part as in the folders' names: wholeBody, or a region such as knee (left and
            right).
        identical: Lists of patient numbers that are one person; patients with an identical file are
            joined too.
        unmatched: `refuse` labels without image and images without label, or `drop` and count them.
        bad_boxes: `refuse` an XML that cannot be used, or `drop` it and count it; the boxes of its
            image are then unknown.
        box_tolerance: Pixels by which a box may reach beyond its image; it is cut off at the
            border.
        true_masks: Folder of true lesion masks, such as `<true_masks>/wholeBodyPOST/1.png`, which
            only phantoms have; None for none.
        **base: As `ManifestDataModule`; `root` is the folder that holds wholeBodyANT and
            wholeBodyPOST. The set has no split of its own.
    """

    image_kind = "bone scans"

    def __init__(
        self,
        view: Literal["POST", "ANT", "both"] = "POST",
        part: str = "wholeBody",
        identical: Sequence[Sequence[NonNegativeInt]] = DUPLICATE_PATIENTS,
        unmatched: Literal["refuse", "drop"] = "refuse",
        bad_boxes: Literal["refuse", "drop"] = "refuse",
        box_tolerance: NonNegativeFloat = 2.0,
        true_masks: FilePath | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.view, self.part, self.identical = view, part, check_patients(identical)
        self.unmatched = unmatched
        self.box_reader = BoneScanBoxReader(box_tolerance, bad_boxes, self.cleaning)
        self.true_masks = Path(true_masks).expanduser() if true_masks else None

    @cached_property
    def index(self) -> pd.DataFrame:
        """Index of every labelled image below `root`, of all body parts."""
        return build_index(self.root, self.unmatched, self.cleaning)

    def manifest(self) -> Manifest:
        """Return both views of the body part; `self.cleaning` lists what was left out."""
        rows = self.index[self.index["part"] == self.part].reset_index(drop=True)
        if not len(rows):
            raise ManifestError(
                f"{self.root} has no {self.part}; set datamodule.part to one of"
                f" {', '.join(sorted(set(self.index['part'])))}"
            )
        group_of = group_patients(
            rows["number"], [*self.identical, *find_identical_scans(rows, self.cleaning)]
        )
        rows["group"] = rows.pop("number").map(group_of)
        return Manifest(
            rows.assign(stratum=patient_strata(rows)), ("abnormal",), group_is="patient"
        )

    def finalize_table(self, manifest: Manifest) -> Manifest:
        """Return the rows of the chosen view with size, place on the canvas, boxes and true masks.

        Returns:
            The manifest with the further columns `view`, `part`, `side`; `height` and `width` of
            the image; `scale`, `pad_left` and `pad_top` (canvas pixels) of its letterbox; `boxes`
            and `physiological` as in `BoneScanBoxReader.read_columns`; and `true_mask`, a path or
            None, if there is a folder of true masks.

        Raises:
            ManifestError: A split has no row, an image cannot be read, an XML cannot be used, or
                the folder of true masks is missing.
        """
        of_view = manifest.rows["view"].isin(FOLDER_VIEWS[self.view]) | (self.view == "both")
        rows = (
            manifest.rows[of_view].drop(columns=["stratum", "folder"]).reset_index(drop=True)
        )  # the stratum describes a patient's views together, not one view
        for split in SPLITS:
            if not (rows["split"] == split).any():
                problem = (
                    f"no patient of split {split} has a {self.part} scan in view {self.view}"
                    f" ({rows['group'].nunique()} patients have one)"
                )
                raise ManifestError(
                    f"{self.root}: {problem}; add more patients, or change datamodule.view or"
                    " datamodule.seed"
                )
        rows = rows.join(pd.DataFrame([self._letterbox_columns(image) for image in rows["image"]]))
        rows = rows.assign(**self.box_reader.read_columns(rows))
        if self.true_masks:
            if not self.true_masks.is_dir():
                raise ManifestError(
                    f"datamodule.true_masks={self.true_masks} is not a folder; name one, or set"
                    " datamodule.true_masks=null"
                )
            rows["true_mask"] = pd.Series([self._true_mask(id) for id in rows["id"]], dtype=object)
        final = replace(manifest, rows=rows)
        check_ground_truth(final)
        return final

    def _letterbox_columns(self, image: str) -> dict[str, float]:
        height, width = self.reader.read_size(Path(image))
        letterbox = Letterbox(height, width, self.image_size)
        content = letterbox.content
        return {
            "height": height,
            "width": width,
            "scale": letterbox.scale,
            "pad_left": content.left,
            "pad_top": content.top,
        }

    def _true_mask(self, id: str) -> str | None:
        path = (self.true_masks or Path()) / Path(id).with_suffix(".png")
        return str(path) if path.is_file() else None
