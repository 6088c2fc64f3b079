"""Bone scans in the BS-80K layout.

The label of `wholeBodyANT/1.jpg` stands in `wholeBodyANT/wholeBodyANT.txt`, its boxes in
`wholeBodyANT/ant/1.xml`.

Data: BS-80K (Huang et al. 2022, https://doi.org/10.1016/j.compbiomed.2022.106221)
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from datamodules.arguments import FilePath, NonNegative, Whole, validated
from datamodules.base import ManifestDataModule
from datamodules.bone_boxes import BoneBoxes
from datamodules.bone_index import build_index
from datamodules.bone_patients import check_patients, find_copies, join_views, patient_strata
from datamodules.images import image_size
from datamodules.letterbox import Letterbox
from datamodules.manifest import SPLITS, Manifest
from datamodules.refusal import ManifestError
from datamodules.truths import check_ground_truth

VIEWS = {"POST": ("POST",), "ANT": ("ANT",), "both": ("ANT", "POST")}
IDENTICAL = (
    (828, 2244),
    (312, 570),
    (831, 3216),
    (832, 3245),
)  # patients of BS-80K that stand there twice


@validated
class BoneScanDataModule(ManifestDataModule):
    """One row per scan of one body part in the wanted view, with boxes where an XML gives them.

    The split is made over both views of all patients before the rows of the wanted view are kept,
    so ANT, POST and both share one split: a patient that one network was trained on is never in
    another's test.

    Args:
        view: `POST`, `ANT`, or `both`: two images a patient.
        part: The body part, as the folders' names say it: wholeBody, or a region such as knee (left
            and right).
        identical: Lists of patient numbers that are one patient; patients with the same file, byte
            by byte, are joined too.
        unmatched: `refuse` labels without image and images without label, or `drop` and count them.
        bad_boxes: `refuse` an XML that cannot be used, or `drop` it and count it; nothing is known
            of its image's boxes then.
        box_tolerance: Pixels by which a box may reach beyond its image; it is cut off at the
            border.
        true_masks: A folder of true lesion masks, `<true_masks>/wholeBodyPOST/1.png`, that only
            phantoms have; None for none.
        **base: As `ManifestDataModule`; `root` is the folder that holds wholeBodyANT and
            wholeBodyPOST. The set has no split of its own.
    """

    def __init__(
        self,
        view: Literal["POST", "ANT", "both"] = "POST",
        part: str = "wholeBody",
        identical: Sequence[Sequence[Whole]] = IDENTICAL,
        unmatched: Literal["refuse", "drop"] = "refuse",
        bad_boxes: Literal["refuse", "drop"] = "refuse",
        box_tolerance: NonNegative = 2.0,
        true_masks: FilePath | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.view, self.part, self.identical = view, part, check_patients(identical)
        self.unmatched = unmatched
        self.boxes = BoneBoxes(box_tolerance, bad_boxes, self.cleaning)
        self.true_masks = Path(true_masks).expanduser() if true_masks else None

    @cached_property
    def index(self) -> pd.DataFrame:
        """Every labelled image below `root`, from `index_of`; not only what is trained on."""
        return build_index(self.root, self.unmatched, self.cleaning)

    def manifest(self) -> Manifest:
        """Both views of the part before the split; `self.cleaning` lists what was left out."""
        rows = self.index[self.index["part"] == self.part].reset_index(drop=True)
        if not len(rows):
            raise ManifestError(
                f"{self.root} has no {self.part}; set datamodule.part to one of"
                f" {', '.join(sorted(set(self.index['part'])))}"
            )
        group_of = join_views(rows["number"], [*self.identical, *find_copies(rows, self.cleaning)])
        rows["group"] = rows.pop("number").map(group_of)
        return Manifest(
            rows.assign(stratum=patient_strata(rows)), ("abnormal",), group_is="patient"
        )

    def with_split(self, manifest: Manifest) -> Manifest:
        """Return the rows of the wanted view with size, place on the canvas, boxes and true masks.

        Returns:
            Besides the usual columns `view`, `part`, `side`; `height`, `width` of the image;
            `scale`, `pad_left`, `pad_top` (canvas pixels) of its letterbox; `boxes`,
            `physiological` as `BoneBoxes.columns`; `true_mask`, a path or None, where there is a
            folder of them.

        Raises:
            ManifestError: a split without any of them, an image that cannot be read, an XML that
                cannot be used, no folder of true masks.
        """
        of_view = manifest.rows["view"].isin(VIEWS[self.view]) | (self.view == "both")
        rows = (
            manifest.rows[of_view].drop(columns=["stratum", "folder"]).reset_index(drop=True)
        )  # a patient's stratum says nothing of one view
        for split in SPLITS:
            if not (rows["split"] == split).any():
                said = (
                    f"no patient of split {split} has a {self.part} scan in view {self.view}"
                    f" ({rows['group'].nunique()} patients have one)"
                )
                raise ManifestError(
                    f"{self.root}: {said}; bring more patients, or set datamodule.view or"
                    " datamodule.seed to another"
                )
        rows = rows.join(pd.DataFrame([self._image_path(image) for image in rows["image"]]))
        rows = rows.assign(**self.boxes.columns(rows))
        if self.true_masks:
            if not self.true_masks.is_dir():
                raise ManifestError(
                    f"datamodule.true_masks={self.true_masks} is not a folder; name one, or set"
                    " datamodule.true_masks=null"
                )
            rows["true_mask"] = pd.Series([self._true_mask(id) for id in rows["id"]], dtype=object)
        found = replace(manifest, rows=rows)
        check_ground_truth(found)
        return found

    def _image_path(self, image: str) -> dict[str, float]:
        height, width = image_size(Path(image))
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
