"""Tests of the files of do=[predict], against masks that are computed by hand."""

import csv
import json
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import torch
from lightning import Trainer
from pycocotools import mask as coco_mask
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy import ndimage
from torch import nn

from callbacks.prediction_writer import PredictionWriter
from datamodules.base import TrainedWindow
from datamodules.errors import UserError
from datamodules.folder import FolderDataModule
from datamodules.formats.rle import decode_rle, decode_siim
from datamodules.own_data import OwnDataModule
from datamodules.pneumothorax import read_siim_csv
from lightning_modules.classification import ClassificationModule
from lightning_modules.losses import BCELoss
from lightning_modules.segmentation import SegmentationModule
from tests.factories.optional import import_optional

pytestmark = pytest.mark.filterwarnings("ignore:You are using a custom batch sampler")
SIDE, SPACING = 32, (0.5, 0.25)


class Brightest(nn.Module):
    """One logit: that of the brightest pixel."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.fc = nn.Linear(1, 1)  # a head, whose number of logits the module checks
        nn.init.constant_(self.fc.weight, 40.0)
        nn.init.constant_(self.fc.bias, -40.0 * threshold)

    def forward(self, image):
        return self.fc(image.amax((1, 2, 3))[:, None])


def mask_module(threshold: float = 0.5, classes: int = 1) -> SegmentationModule:
    """A network that is known: class k is every pixel above k times the threshold."""
    net = nn.Conv2d(1, classes, 1)
    with torch.no_grad():
        net.weight.fill_(40.0)
        net.bias.copy_(-40.0 * threshold * torch.arange(1, classes + 1))
    return SegmentationModule(
        classes=["lesion", "core"][:classes],
        net=net,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        mean=[0.0],
        std=[1.0],
        loss=BCELoss(),
    )


def draw(count: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    """Images of the network's own size: blobs of two brightnesses on black, one image is empty."""
    random, found = np.random.default_rng(seed), {}
    for n in range(count):
        image = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(0 if n == 2 else 1 + n % 3):
            top, left = random.integers(0, SIDE - 8, 2)
            image[top : top + 3 + n % 4, left : left + 4] = random.choice([150, 250])
        found[f"case{n}"] = image
    return found


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder


def save_film(path: Path, pixels: np.ndarray) -> None:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # Computed Radiography
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
    film.StudyInstanceUID, film.SeriesInstanceUID = generate_uid(), generate_uid()
    film.PatientID, film.PatientName, film.Modality = "p1", "A^B", "CR"
    film.PatientBirthDate = film.PatientSex = film.StudyDate = film.StudyTime = ""
    film.AccessionNumber = film.StudyID = film.ReferringPhysicianName = ""
    film.SeriesNumber, film.InstanceNumber, film.PatientOrientation = 1, 1, ""
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation = 7, 0
    film.PixelSpacing = list(SPACING)
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)


def predict(folder: Path, out: Path, module=None, **options) -> PredictionWriter:
    module = module or mask_module()
    data = FolderDataModule(
        classes=list(module.classes),
        root=str(folder),
        cache_dir=str(out.parent / "cache"),
        image_size=SIDE,
        batch_size=2,
        num_workers=0,
    )
    writer = PredictionWriter(run_dir=str(out), **options)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[writer],
        enable_progress_bar=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    trainer.predict(module, datamodule=data, return_predictions=False)
    return writer


def read_table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_masks_tables_and_run_lengths_say_what_the_network_does(tmp_path):
    images = draw()
    out = tmp_path / "run"
    predict(save(tmp_path / "images", images), out)
    table = read_table(out)
    lengths = read_siim_csv(out / "predictions" / "submission.csv")
    assert list(table) == list(images)
    for name, image in images.items():
        by_hand = image > 0.5 * 255
        written = cv2.imread(str(out / "predictions" / "masks" / f"{name}.png"), -1)
        assert np.array_equal(written, by_hand * 255)
        rle = decode_siim(lengths[name], SIDE, SIDE)
        assert np.array_equal(decode_rle([rle], SIDE, SIDE)[..., 0] > 0, by_hand)
        row = table[name]
        assert int(row["area_px"]) == by_hand.sum() and int(row["positive"]) == by_hand.any()
        assert int(row["components"]) == ndimage.label(by_hand, np.ones((3, 3)))[1]
        brightest = image.max() / 255
        assert float(row["probability"]) == pytest.approx(
            1 / (1 + np.exp(-40 * (brightest - 0.5))), abs=2e-6
        )
        assert row["area_mm2"] == ""
    assert not list((out / "predictions").glob(".progress*"))


def test_areas_of_a_film_are_in_square_millimeters(tmp_path):
    images = draw(3)
    (tmp_path / "images").mkdir()
    for name, image in images.items():
        save_film(tmp_path / "images" / f"{name}.dcm", image)
    predict(tmp_path / "images", tmp_path / "run")
    for name, row in read_table(tmp_path / "run").items():
        area = (images[name] > 127).sum() * SPACING[0] * SPACING[1]
        assert float(row["area_mm2"]) == pytest.approx(area)


def test_small_components_are_removed(tmp_path):
    images = draw()
    predict(save(tmp_path / "images", images), tmp_path / "run", min_component=20)
    for name, row in read_table(tmp_path / "run").items():
        labels, count = ndimage.label(images[name] > 127, np.ones((3, 3)))
        sizes = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
        assert int(row["area_px"]) == sum(size for size in sizes if size >= 20)
    page = (tmp_path / "run" / "predictions" / "predictions.html").read_text()
    assert "components below 20 px" in page


def test_maps_have_the_probability_in_16_bits_and_overlays_the_image(tmp_path):
    images = draw(3)
    out = tmp_path / "run"
    predict(save(tmp_path / "images", images), out, probability_maps=True)
    for name, image in images.items():
        written = cv2.imread(str(out / "predictions" / "probability_maps" / f"{name}.png"), -1)
        by_hand = 1 / (1 + np.exp(-40 * (image / 255 - 0.5)))
        assert written.dtype == np.uint16
        assert written / 65535 == pytest.approx(by_hand, abs=2e-5)
        overlay = cv2.imread(str(out / "predictions" / "overlays" / f"{name}.png"), -1)
        outside = ~ndimage.binary_dilation(image > 127, iterations=3)
        assert np.array_equal(overlay[outside], np.repeat(image[..., None], 3, 2)[outside])
        assert (overlay[..., 2] == 255).any() == (image > 127).any()  # a red outline


def test_several_classes_have_a_folder_each(tmp_path):
    images = draw()
    out = tmp_path / "run"
    predict(save(tmp_path / "images", images), out, mask_module(0.4, classes=2))
    for k, name in enumerate(("lesion", "core"), start=1):
        for id, image in images.items():
            written = cv2.imread(str(out / "predictions" / "masks" / name / f"{id}.png"), -1)
            assert np.array_equal(written > 0, image > 0.4 * k * 255)
        assert (out / "predictions" / name / "submission.csv").is_file()
    row = read_table(out)["case0"]
    assert {"area_px lesion", "area_px core", "probability core"} <= set(row)


def test_labels_have_a_table_and_no_masks(tmp_path):
    images = draw()
    module = ClassificationModule(
        classes=["lesion"],
        net=Brightest(0.8),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        mean=[0.0],
        std=[1.0],
        loss=BCELoss(),
    )
    predict(save(tmp_path / "images", images), tmp_path / "run", module)
    for name, row in read_table(tmp_path / "run").items():
        p = 1 / (1 + np.exp(-40 * (images[name].max() / 255 - 0.8)))
        assert float(row["probability"]) == pytest.approx(p, abs=2e-6)
        assert int(row["positive"]) == (p >= 0.5) and row["label"] == ("lesion" if p >= 0.5 else "")
    assert not (tmp_path / "run" / "predictions" / "masks").exists()


def test_what_is_no_image_and_what_is_broken_is_listed(tmp_path):
    folder = save(tmp_path / "images", draw(3))
    (folder / "letter.pdf").write_bytes(b"%PDF-1.4")
    (folder / "broken.png").write_bytes((folder / "case0.png").read_bytes()[:60])
    predict(folder, tmp_path / "run")
    table = read_table(tmp_path / "run")
    assert "cannot be decoded" in table["broken"]["problem"] and table["case0"]["problem"] == ""
    left_out = (tmp_path / "run" / "predictions" / "left_out.csv").read_text()
    assert "letter.pdf,no image by its suffix or content" in left_out and "broken" in left_out


def test_images_of_16_bits_are_left_out_by_a_network_that_has_seen_8(tmp_path):
    images = draw(3)
    folder = save(tmp_path / "images", images)
    assert cv2.imwrite(str(folder / "deep.png"), images["case0"].astype(np.uint16) * 257)
    data = FolderDataModule(
        classes=["lesion"],
        root=str(folder),
        cache_dir=str(tmp_path / "cache"),
        image_size=SIDE,
        num_workers=0,
    )
    data.trained_window = TrainedWindow(None, False)
    data.prepare_data()
    assert "datamodule.window=[low,high]" in data.unreadable["deep"] and len(data.unreadable) == 1
    assert data.display_window() is None
    only = tmp_path / "only"
    only.mkdir()
    (folder / "deep.png").rename(only / "deep.png")
    alone = FolderDataModule(
        classes=["lesion"], root=str(only), cache_dir=str(tmp_path / "cache"), image_size=SIDE
    )
    alone.trained_window = TrainedWindow(None, False)
    with pytest.raises(UserError, match="1 image has more than 8 bits"):
        alone.prepare_data()


def test_color_images_are_counted(tmp_path):
    images = draw(3)
    folder = save(tmp_path / "images", images)
    color = np.repeat(images["case0"][..., None], 3, 2) // np.uint8((1, 2, 3))
    assert cv2.imwrite(str(folder / "case0.png"), color)
    predict(folder, tmp_path / "run")
    page = (tmp_path / "run" / "predictions" / "predictions.html").read_text()
    assert "1 color image converted to gray" in page


def test_dicom_objects_without_their_package_are_refused_at_once(tmp_path, monkeypatch):
    for name in ("highdicom", "highdicom.seg", "highdicom.sr"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="uv sync --extra deploy"):
        PredictionWriter(run_dir=str(tmp_path), dicom=["seg"])


def test_annotations_are_masks_that_the_readers_take(tmp_path):
    images = draw()
    folder = save(tmp_path / "images", images)
    predict(folder, tmp_path / "run", annotations=["coco", "cvat", "label_studio"])
    written = tmp_path / "run" / "predictions" / "annotations"
    assert {path.name for path in written.iterdir()} == {"coco", "cvat", "label_studio"}
    coco = json.loads((written / "coco" / "annotations.coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert set(names.values()) == {f"{name}.png" for name in images}
    joined = {name: np.zeros((SIDE, SIDE), bool) for name in images}
    for each in coco["annotations"]:
        joined[names[each["image_id"]][:-4]] |= coco_mask.decode(each["segmentation"]) > 0
    for name, image in images.items():
        assert np.array_equal(joined[name], image > 127)
    # beside the images, the file is a data set
    (folder / "annotations.coco.json").write_bytes(
        (written / "coco" / "annotations.coco.json").read_bytes()
    )
    words = {"cache_dir": str(tmp_path / "cache"), "image_size": SIDE, "num_workers": 0}
    data = OwnDataModule(root=str(folder), unannotated="negative", **words)
    assert data.read_manifest().classes == ("lesion",)


def test_films_get_dicom_objects(tmp_path):
    import_optional("highdicom")
    images = draw(2)
    folder = save(tmp_path / "images", {"photo": images["case1"]})
    save_film(folder / "film.dcm", images["case0"])
    predict(folder, tmp_path / "run", dicom=["seg", "report"])
    written = tmp_path / "run" / "predictions" / "dicom"
    assert sorted(path.name for path in written.iterdir()) == ["film.report.dcm", "film.seg.dcm"]
    seg = pydicom.dcmread(written / "film.seg.dcm")
    assert np.array_equal(seg.pixel_array > 0, images["case0"] > 127)


class Killed(RuntimeError):
    pass


def interrupt(monkeypatch, after: int) -> None:
    """Let the prediction end with an error in its batch number `after`."""
    plain = SegmentationModule.predict_step

    def predict_step(self, batch, batch_idx):
        if batch_idx == after:
            raise Killed
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "predict_step", predict_step)


def test_an_interrupted_prediction_goes_on_and_ends_as_an_uninterrupted_one(
    tmp_path, monkeypatch, capsys
):
    folder = save(tmp_path / "images", draw())
    predict(folder, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, after=3)
        with pytest.raises(Killed):
            predict(folder, tmp_path / "run")
    assert "4 images are predicted and stay in" in capsys.readouterr().out
    with (tmp_path / "run/predictions/.progress-0.jsonl").open("a") as file:
        file.write('{"digest": "torn')  # a kill within a line
    seen: list[str] = []
    plain = SegmentationModule.predict_step
    monkeypatch.setattr(
        SegmentationModule,
        "predict_step",
        lambda self, batch, n: seen.extend(batch["id"]) or plain(self, batch, n),
    )
    predict(folder, tmp_path / "run", resume="auto")
    assert seen == ["case4", "case5", "case6"]
    whole, again = tmp_path / "whole" / "predictions", tmp_path / "run" / "predictions"
    for path in whole.rglob("*.png"):
        assert (again / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert (again / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()
    rows = [read_table(tmp_path / name) for name in ("whole", "run")]
    for name, row in rows[0].items():
        assert row | {"seconds": ""} == rows[1][name] | {"seconds": ""}


def test_finished_images_whose_files_changed_are_predicted_again(tmp_path, monkeypatch):
    images = draw()
    folder = save(tmp_path / "images", images)
    with monkeypatch.context() as patch:
        interrupt(patch, after=3)
        with pytest.raises(Killed):
            predict(folder, tmp_path / "run")
    save(folder, {"case0": images["case5"]})
    predict(folder, tmp_path / "run", resume="auto")
    written = cv2.imread(str(tmp_path / "run/predictions/masks/case0.png"), -1)
    assert np.array_equal(written > 0, images["case5"] > 127)


def test_a_prediction_with_other_settings_is_not_continued(tmp_path, monkeypatch):
    folder = save(tmp_path / "images", draw())
    with monkeypatch.context() as patch:
        interrupt(patch, after=3)
        with pytest.raises(Killed):
            predict(folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"other settings \(min_component was 0 and is 9\)"):
        predict(folder, tmp_path / "run", resume="auto", min_component=9)
    predict(folder, tmp_path / "run", min_component=9)  # not continued: begun again
    assert len(read_table(tmp_path / "run")) == 7
