"""Tests of DICOM Segmentation objects beside their images: matching, groups, refusals."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from datamodules.errors import ManifestError
from datamodules.own_data import OwnDataModule
from tests.factories.layouts import dicom_segmentations, draw
from tests.factories.optional import import_optional

NAMES = ["edema", "lesion"]


@pytest.fixture
def root(tmp_path):
    import_optional("highdicom")
    folder = tmp_path / "data"
    folder.mkdir()
    dicom_segmentations(folder, draw(), NAMES)
    return folder


def own(root: Path, **more) -> OwnDataModule:
    words = {"image_size": 64, "num_workers": 0} | more
    return OwnDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


def change(path: Path, **elements) -> None:
    """Set elements of a DICOM, or remove them with None."""
    dataset = dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def test_groups_are_hashed_patients_and_no_name_is_written(root, tmp_path):
    data = own(root)
    rows = data.table.rows
    assert data.match.layout.name == "dicom_seg" and data.table.group_is == "patient"
    assert rows["group"].nunique() == 12
    expected = hashlib.sha256(b"patient Doe3").hexdigest()[:12]
    assert set(rows["group"][rows["image"].str.contains("/p3/")]) == {expected}
    assert "Doe" not in data.table.write(tmp_path / "m.csv").read_text()


def test_studies_are_groups_without_patients(root):
    for path in root.rglob("ct/*.dcm"):
        change(path, PatientID="ANON")
    data = own(root)
    assert data.table.rows["group"].nunique() == 12
    assert data.cleaning["all images have one PatientID: groups are studies"] == 1
    for path in root.rglob("ct/*.dcm"):
        change(path, PatientID="")
    assert own(root).table.rows["group"].nunique() == 12


def test_names_and_order_of_files_do_not_matter(root):
    data = own(root)
    data.prepare_data()
    before = {d: data.cache.truth(n, 2) for n, d in enumerate(data.cache.digests.tolist())}
    for n, path in enumerate(sorted(root.rglob("*.dcm"))):
        path.rename(root / f"{(n * 37) % 101:03d}")  # without suffix, in one folder
    again = own(root)
    again.prepare_data()
    assert len(again.table) == 24
    for n, digest in enumerate(again.cache.digests.tolist()):
        assert np.array_equal(again.cache.truth(n, 2), before[digest])


def test_what_is_missing_is_counted(root):
    (root / "p1/seg/0.dcm").unlink()
    for path in (root / "p2/ct").iterdir():
        path.unlink()
    next((root / "p4/ct").iterdir()).unlink()
    data = own(root)
    manifest = data.read_manifest()
    assert len(manifest) == 24 - 2 - 2 - 1
    counted = data.cleaning.as_dict()
    left = "image without annotation: left out (datamodule.unannotated=negative uses it)"
    assert counted[left]["count"] == 2
    assert counted["SEG whose images are missing: left out"]["examples"] == ["p2/seg/0.dcm"]
    assert counted["SEG of which some images are missing"]["examples"] == ["p4/seg/0.dcm"]


def smaller(root: Path) -> None:
    for path in (root / "p1/ct").iterdir():
        change(path, Rows=24, PixelData=dcmread(path).PixelData[: 24 * 40])


def moved(root: Path) -> None:
    for path in (root / "p1/ct").iterdir():
        change(path, ImagePositionPatient=[5, 0, 0])


def several_frames(root: Path) -> None:
    for path in (root / "p1/ct").iterdir():
        change(path, NumberOfFrames=2, PixelData=dcmread(path).PixelData * 2)


def no_sources(root: Path) -> None:
    path = root / "p1/seg/0.dcm"
    dataset = dcmread(path)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    dataset.save_as(path)


def truncated(root: Path) -> None:
    path = root / "p1/seg/0.dcm"
    change(path, PixelData=dcmread(path).PixelData[:100])


REFUSED = {
    "size": (
        smaller,
        r"p1/seg/0\.dcm has frames of 48 x 40 pixels, and its image p1/ct/.* 24 x 40",
    ),
    "place": (
        moved,
        r"p1/seg/0\.dcm has a frame that lies elsewhere than its image .* pixels away",
    ),
    "frames": (several_frames, "holds 2 frames, and segmentations are read of images of one frame"),
    "sources": (no_sources, r"p1/seg/0\.dcm: frame 1 names no images that it was made on"),
    "truncated": (truncated, r"p1/seg/0\.dcm cannot be decoded \("),
    "label": (
        lambda root: change(root / "p1/seg/0.dcm", SegmentSequence=[]),
        "has a segment without SegmentLabel",
    ),
    "type": (
        lambda root: change(root / "p1/seg/0.dcm", SegmentationType="LABELMAP"),
        "is a segmentation of the type LABELMAP, which cannot be read",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_uncertain_is_refused(kind, root):
    make, sentence = REFUSED[kind]
    make(root)
    with pytest.raises(ManifestError, match=sentence) as refusal:
        own(root).prepare_data()
    assert "\n" not in str(refusal.value)
