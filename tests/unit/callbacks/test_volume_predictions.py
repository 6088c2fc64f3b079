"""Tests that predictions of slices are written back as the volume that they came from."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from lightning import Trainer
from torch import nn

from callbacks.prediction_writer import PredictionWriter
from datamodules.folder import FolderDataModule
from datamodules.own_data import OwnDataModule
from lightning_modules.losses import BCELoss, DiceCrossEntropyLoss
from lightning_modules.segmentation import SegmentationModule

pytestmark = pytest.mark.filterwarnings("ignore:You are using a custom batch sampler")
DIRECTION = (0.0, -1.0, 0.0, 0.6, 0.0, 0.8, -0.8, 0.0, 0.6)


def write(path: Path, axis: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Write a volume of noise whose slices are 32 pixels wide and 64 high, `Z x Y x X`."""
    first, second = (other for other in range(3) if other != axis)
    size, spacing = [0, 0, 0], [0.0, 0.0, 0.0]
    size[first], size[second], size[axis] = 32, 64, 5
    spacing[first], spacing[second], spacing[axis] = 0.7, 1.1, 4.5
    values = np.random.default_rng(seed).integers(0, 256, size[::-1]).astype(dtype)
    if dtype == np.int16:
        values = (values - 128) * 7
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 30.25, 7.0))
    image.SetDirection(DIRECTION)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    return values


def module(thresholds: list[float], exclusive: bool = False) -> SegmentationModule:
    """A network that is known: class k is every pixel above its threshold, 0 to 1."""
    net = nn.Conv2d(1, len(thresholds), 1)
    with torch.no_grad():
        net.weight.fill_(40.0)
        net.bias.copy_(-40.0 * torch.tensor(thresholds))
        if exclusive:  # the later class has the steeper slope, and wins above its threshold
            net.weight.copy_(40.0 * torch.arange(1, len(thresholds) + 1).view(-1, 1, 1, 1))
            net.bias.copy_(-torch.tensor(thresholds) * 40.0)
    loss = DiceCrossEntropyLoss(exclusive=True) if exclusive else BCELoss()
    return SegmentationModule(
        classes=["a", "b"][: len(thresholds)],
        net=net,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        mean=[0.0],
        std=[1.0],
        loss=loss,
        exclusive=exclusive,
    )


def predict(data, network: SegmentationModule, run: Path) -> Path:
    writer = PredictionWriter(run_dir=str(run))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=[writer], enable_checkpointing=False, **quiet)
    trainer.predict(network, datamodule=data, return_predictions=False)
    return run / "predictions" / "masks"


def folder(root: Path, classes: list[str], **more) -> FolderDataModule:
    words = {"image_size": [64, 32], "batch_size": 3, "num_workers": 0} | more
    return FolderDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), classes=classes, **words
    )


def same_grid(file: Path, image: Path) -> None:
    found, wanted = SimpleITK.ReadImage(str(file)), SimpleITK.ReadImage(str(image))
    assert found.GetSize() == wanted.GetSize()
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(found, of)(), getattr(wanted, of)(), atol=1e-5), of


def read(file: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_threshold_is_written_back_voxel_by_voxel(suffix, axis, tmp_path):
    root = tmp_path / "data"
    values = write(root / "a b" / f"case{suffix}", axis)
    other = write(root / f"other{suffix}", axis, seed=1)
    data = folder(root, ["a"])
    masks = predict(data, module([0.5]), tmp_path / "run")
    assert data.table.rows["axis"].unique().tolist() == [axis]
    assert data.table.rows["id"].tolist() == [
        f"{n}#00{k}" for n in ("case", "other") for k in range(5)
    ]
    suffixes = {suffix} | (
        {".mhd": {".mhd", ".zraw"}, ".nhdr": {".nhdr", ".raw.gz"}}.get(suffix, set())
    )
    assert {f.name for f in masks.iterdir()} == {
        f"{n}{s}" for n in ("case", "other") for s in suffixes
    }
    for name, gray, image in (("case", values, "a b/case"), ("other", other, "other")):
        file = masks / f"{name}{suffix}"
        assert np.array_equal(read(file), gray > 127.5), name
        same_grid(file, root / f"{image}{suffix}")


def test_overlapping_classes_have_a_volume_each_and_exclusive_ones_a_class_map(tmp_path):
    values = write(tmp_path / "data" / "case.nii.gz", 2)
    masks = predict(folder(tmp_path / "data", ["a", "b"]), module([0.3, 0.7]), tmp_path / "run")
    for name, threshold in (("a", 0.3), ("b", 0.7)):
        assert np.array_equal(read(masks / name / "case.nii.gz"), values > 255 * threshold)
    # logits 40 (x - .3) and 40 (2 x - 1): the second is larger above .7
    network = module([0.3, 1.0], exclusive=True)
    masks = predict(folder(tmp_path / "data", ["a", "b"]), network, tmp_path / "run2")
    expected = (values > 255 * 0.3).astype(int) + (values > 255 * 0.7)
    assert np.array_equal(read(masks / "case.nii.gz"), expected)
    assert (masks / "values.csv").read_text().split() == [
        "value,class",
        "0,background",
        "1,a",
        "2,b",
    ]


def test_deep_and_two_dimensional_files_beside_a_damaged_one(tmp_path):
    root = tmp_path / "data"
    values = write(root / "case.nii.gz", 2, np.int16)
    flat = SimpleITK.GetImageFromArray(values[0])
    flat.SetSpacing((0.5, 0.25))
    SimpleITK.WriteImage(flat, str(root / "flat.mha"))
    (root / "damaged.nii.gz").write_bytes(b"no volume")
    data = folder(root, ["a"], window=[-1000.0, 1000.0])
    masks = predict(data, module([0.5]), tmp_path / "run")
    assert list(data.unreadable) == ["damaged"] and "damaged.nii.gz" in data.unreadable["damaged"]
    shown = np.rint((values + 1000.0) / 2000 * 255)
    assert np.array_equal(read(masks / "case.nii.gz"), shown > 127.5)
    assert np.array_equal(read(masks / "flat.mha"), shown[0] > 127.5)
    assert SimpleITK.ReadImage(str(masks / "flat.mha")).GetSpacing() == (0.5, 0.25)


def test_the_test_split_of_own_data_with_dropped_slices(tmp_path, capsys):
    root = tmp_path / "data"
    for n in range(12):
        gray = write(root / "images" / f"v{n:02d}.nrrd", 2, seed=n)
        image = SimpleITK.ReadImage(str(root / "images" / f"v{n:02d}.nrrd"))
        labels = (gray > 200).astype(np.uint8)
        labels[1] = 0
        mask = SimpleITK.GetImageFromArray(labels)
        mask.CopyInformation(image)
        (root / "masks").mkdir(exist_ok=True)
        SimpleITK.WriteImage(mask, str(root / "masks" / f"v{n:02d}_seg.nrrd"))
    data = OwnDataModule(
        root=str(root),
        cache_dir=str(tmp_path / "cache"),
        image_size=[64, 32],
        num_workers=0,
        empty_slices="drop",
        classes=["a"],
    )
    masks = predict(data, module([0.5]), tmp_path / "run")
    assert len(data.table) == 48 and data.table.group_is == "patient"
    tested = sorted(set(data.table.rows.query("split == 'test'")["group"]))
    assert sorted(file.name for file in masks.iterdir()) == [
        f"{group.replace('/', '_')}.nrrd" for group in tested
    ]
    for group in tested:
        expected = read(root / f"{group}.nrrd") > 127.5
        expected[1] = False
        assert np.array_equal(read(masks / f"{group.replace('/', '_')}.nrrd"), expected)
    assert "1 of 5 slices of 'images_v" in capsys.readouterr().out
