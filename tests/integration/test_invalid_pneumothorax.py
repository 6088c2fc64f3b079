"""Tests of bad pneumothorax input: exit code, one sentence with a fix, no step, data untouched."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

from tests.conftest import SMALL_PNX, folder_hash

CSV = "train-rle.csv"
WORDS = [*SMALL_PNX, "callbacks.curriculum.stages=[{epochs:1}]", "trainer.max_epochs=1"]


def annotated(root: Path) -> str:
    """The first image with a mask."""
    return next(
        line.split(",")[0]
        for line in (root / CSV).read_text().splitlines()[1:]
        if "-1" not in line.split(",")[1]
    )


def add(text: str):
    """One more row of the first image with a mask."""
    return lambda root: (root / CSV).write_text(
        (root / CSV).read_text() + f"{annotated(root)}, {text}\n"
    )


def header(text: str):
    return lambda root: (root / CSV).write_text(
        (root / CSV).read_text().replace("ImageId, EncodedPixels", text)
    )


def second_table(root: Path) -> None:
    (root / "stage_2_train.csv").write_text((root / CSV).read_text())


def dicom(root: Path) -> Path:
    return next(root.rglob(f"{annotated(root)}.dcm"))


def truncate(root: Path) -> None:
    dicom(root).write_bytes(dicom(root).read_bytes()[:-400])


def other_codec(root: Path) -> None:
    dataset = dcmread(dicom(root))
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([b"junk" * 20])
    dataset.save_as(dicom(root))


def no_dicoms(root: Path) -> None:
    (root / "dicom").rename(root / "pictures")
    for path in sorted(root.rglob("*.dcm")):
        path.rename(path.with_suffix(".jpg"))


def two_layouts(root: Path) -> None:
    (root / "png_images").mkdir(), (root / "png_masks").mkdir()


def no_extra_row(root: Path) -> None:
    """The row without DICOM goes, the DICOM without row stays."""
    names = {path.stem for path in root.rglob("*.dcm")}
    first, *lines = (root / CSV).read_text().splitlines()
    (root / CSV).write_text(
        "\n".join([first, *(line for line in lines if line.split(",")[0] in names)])
    )


REFUSE = ["datamodule.unmatched=refuse"]
BAD_DATA = {
    "no column": (
        header("ImageId, Pixels"),
        [],
        "{root}/train-rle.csv has no column EncodedPixels, only ImageId, Pixels",
        "rename the columns",
    ),
    "odd": (add("1 2 3"), [], "the RLE '1 2 3' has an odd number of values (3)", "correct the row"),
    "beyond": (
        add("4090 7"),
        [],
        "the RLE '4090 7' reaches pixel 4097 of a 64 x 64 image",
        "datamodule.relative=false",
    ),
    "no numbers": (
        add("1 two"),
        [],
        "the RLE '1 two' holds a value that is not a whole number",
        "correct the row",
    ),
    "empty and annotated": (
        add("-1"),
        [],
        "has a row -1 (no mask) and a row with a mask",
        "remove the wrong row",
    ),
    "row without DICOM": (
        lambda root: None,
        REFUSE,
        "1 times a row of the CSV without its DICOM",
        "datamodule.unmatched=drop",
    ),
    "DICOM without row": (
        no_extra_row,
        REFUSE,
        "1 times a DICOM without a row in the CSV",
        "complete the download",
    ),
    "truncated": (truncate, [], ".dcm ", "take it out"),
    "no codec": (
        other_codec,
        [],
        ".dcm is compressed as High-Throughput JPEG 2000",
        "pip install 'pylibjpeg",
    ),
    "no layout": (
        no_dicoms,
        [],
        "{root} holds none of the layouts of SIIM-ACR: DICOM files with a CSV",
        "set datamodule.root",
    ),
    "two layouts": (
        two_layouts,
        [],
        "{root} holds several layouts (kaggle, png)",
        "set datamodule.root",
    ),
    "two tables": (
        second_table,
        [],
        "2 tables that could be the annotations (stage_2_train.csv, train-rle.csv)",
        "leave one",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused(name, thorax, refuses_spoilt):
    spoil, words, wrong, mend = BAD_DATA[name]
    refuses_spoilt([*WORDS, *words], thorax, spoil, wrong, mend)


def other_size(root: Path) -> None:
    path = next(
        path for path in sorted((root / "png_masks").iterdir()) if path.name.endswith("_1_.png")
    )
    cv2.imwrite(str(path), np.full((32, 48), 255, np.uint8))


def other_name(root: Path) -> None:
    for kind in ("png_images", "png_masks"):
        (root / kind / "0_train_0_.png").rename(root / kind / "zero.png")


BAD_PNGS = {
    "two sizes": (
        other_size,
        "_1_.png is 64 x 64 pixels, but its annotation says 32 x 48",
        "export image and mask together",
    ),
    "no label in the name": (
        other_name,
        "zero.png is not named index_split_label_.png",
        "restore the name",
    ),
    "no column": (
        lambda r: (r / "stage_1_test_images.csv").write_text("ImageId\nx\n"),
        "stage_1_test_images.csv has no column new_filename",
        "restore",
    ),
}


@pytest.mark.parametrize("name", BAD_PNGS)
def test_bad_pngs_are_refused(name, layouts, refuses_spoilt):
    refuses_spoilt(WORDS, layouts["png"], *BAD_PNGS[name])


def test_what_is_left_out_is_counted(cli, thorax, tmp_path):
    before = folder_hash(thorax)
    code, said = cli(*WORDS, f"datamodule.root={thorax}")
    assert code == 0, said
    cleaning = json.loads((tmp_path / "run/report.json").read_text())["data"]["cleaning"]
    assert (
        cleaning["row of the CSV without its DICOM: left out"]["count"]
        == cleaning["DICOM without a row in the CSV: left out"]["count"]
        == 1
    )
    assert cleaning["mask in several rows: joined"]["count"] > 1 and folder_hash(thorax) == before
