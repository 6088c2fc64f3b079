"""Tests of the Kaggle layout: patients from names, splits by patient, leaks and refused data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.augmentation import Pipeline, RandomResizedCrop
from datamodules.chest_xray import ChestXrayDataModule
from datamodules.errors import ManifestError
from tests.conftest import folder_hash

NAMES = {
    "person1946_bacteria_4874.jpeg": "person1946",
    "person12_virus_3.jpeg": "person12",
    "NORMAL2-IM-1427-0001.jpeg": "NORMAL2-IM-1427",
    "IM-0115-0001.jpeg": "IM-0115",
    "NORMAL-1003135-0001.jpeg": "NORMAL-1003135",
}


def module(root: Path, folder: Path, **more) -> ChestXrayDataModule:
    return ChestXrayDataModule(
        root=str(root), cache_dir=str(folder / "cache"), image_size=64, **{"split": "group"} | more
    )


def put(root: Path, *names: str, mode: str = "L") -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name) * 1000 + number).integers(
            0, 255, (40, 50), np.uint8
        )
        Image.fromarray(noise).convert(mode).save(path, format="PNG" if mode == "RGBA" else None)


@pytest.mark.parametrize("name", NAMES)
def test_the_patient_is_read_from_all_naming_patterns(name, tmp_path):
    put(tmp_path, f"train/NORMAL/{name}", "train/PNEUMONIA/person9_virus_1.jpeg")
    rows = module(tmp_path, tmp_path).manifest().rows
    assert rows["group"].tolist() == [f"NORMAL {NAMES[name]}", "PNEUMONIA person9"] and rows[
        "label"
    ].tolist() == [0, 1]


def test_bacteria_and_virus_of_one_number_are_one_patient_and_patterns_do_not_mix(tmp_path):
    put(
        tmp_path,
        "train/PNEUMONIA/person7_virus_1.jpeg",
        "test/PNEUMONIA/person7_bacteria_2.jpeg",
        "train/NORMAL/IM-0007-0001.jpeg",
    )
    put(tmp_path, "test/NORMAL/NORMAL2-IM-0007-0001.jpeg")
    assert module(tmp_path, tmp_path).manifest().rows["group"].nunique() == 3


def test_the_new_split_keeps_patients_together_and_the_classes_balance(radiographs, tmp_path):
    data = module(radiographs, tmp_path)
    data.prepare_data()
    rows = data.table.rows
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    shares = rows.groupby("split")["label"].mean()
    assert (
        abs(shares["train"] - rows["label"].mean()) < 0.05
        and 0.7 < (rows["split"] == "train").mean() < 0.9
    )
    again = module(radiographs, tmp_path).table.rows
    assert again["split"].tolist() == rows["split"].tolist()


def test_what_the_folder_split_leaks_is_counted_and_keeping_it_is_a_choice(radiographs, tmp_path):
    data = module(radiographs, tmp_path)
    _ = data.table
    where: dict[str, set[str]] = {}
    for path in radiographs.glob("*/*/*.jpeg"):
        patient = (
            path.name.split("_")[0]
            if path.name.startswith("person")
            else path.name.rsplit("IM-", 1)[-1].split("-000")[0]
        )
        where.setdefault(patient, set()).add(path.parts[-3])
    assert data.folder_leaks["groups"] == sum(len(sides) > 1 for sides in where.values()) > 0
    assert data.folder_leaks["of_groups"] == len(where) == 64
    with pytest.raises(ManifestError, match=r"leak\(s\) between splits.*datamodule\.split=group"):
        module(radiographs, tmp_path, split="folders").prepare_data()
    kept = module(radiographs, tmp_path, split="folders", allow_leaks=True)
    kept.prepare_data()
    assert kept.leaks and all(row.id.startswith(row.split) for row in kept.table.rows.itertuples())


def test_a_sample_has_its_label_and_crops_come_from_the_larger_cache(radiographs, tmp_path):
    crop = Pipeline({"crop": RandomResizedCrop(64, scale=(0.3, 0.6))})
    data = module(radiographs, tmp_path, cache_size=96, augmentation=crop)
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    names = [id.split("/")[1] for id in batch["id"]]
    assert batch["label"].tolist() == [[float(name == "PNEUMONIA")] for name in names] and batch[
        "image"
    ].shape[1:] == (1, 64, 64)
    assert data.cache.images.shape[1] == 96 and not data.cache.has_masks


def fill(root: Path) -> None:
    for split in ("train", "val", "test"):
        put(
            root,
            *(
                f"{split}/NORMAL/IM-{i:04d}-0001.jpeg"
                for i in range(10 * len(split), 10 * len(split) + 12)
            ),
        )
        put(
            root,
            *(
                f"{split}/PNEUMONIA/person{i}_virus_{i}.jpeg"
                for i in range(10 * len(split), 10 * len(split) + 12)
            ),
        )


def no_class(root: Path) -> None:
    shutil.rmtree(root / "train/PNEUMONIA")


def other_class(root: Path) -> None:
    put(root, "train/COVID/a.jpeg")


def nameless(root: Path) -> None:
    put(root, "train/NORMAL/scan.jpeg")


def both(root: Path) -> None:
    put(root, "train/NORMAL/person51_virus_9.jpeg")


def one_class_in_test(root: Path) -> None:
    for path in (root / "test/PNEUMONIA").iterdir():
        path.unlink()


def corrupt(root: Path) -> None:
    path = root / "train/NORMAL/IM-0050-0001.jpeg"
    path.write_bytes(path.read_bytes()[:300])


def no_split(root: Path) -> None:
    (root / "chest_xray").mkdir()
    for split in ("train", "val", "test"):
        (root / split).rename(root / "chest_xray" / split)


BAD = {
    "no class folder": (
        no_class,
        {},
        r"train has no class folder PNEUMONIA \(it has NORMAL\).*datamodule\.class_folders",
    ),
    "unknown class": (
        other_class,
        {},
        r"train/COVID is none of the class folders NORMAL, PNEUMONIA.*move it away",
    ),
    "no patient": (
        nameless,
        {},
        r"train/NORMAL/scan\.jpeg has no patient in its name.*datamodule\.group=file",
    ),
    "patient in both classes": (
        both,
        {},
        r"patient person51 is in two class folders.*datamodule\.both_classes=join",
    ),
    "class absent": (
        one_class_in_test,
        {"split": "folders", "allow_leaks": True},
        r"no image of split test shows PNEUMONIA.*split=group",
    ),
    "corrupt": (
        corrupt,
        {},
        r"IM-0050-0001\.jpeg is not an image that can be read.*replace or remove",
    ),
    "one level up": (
        no_split,
        {},
        r"has no folder train, val or test \(but .*chest_xray has\).*datamodule\.root",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_in_a_sentence_and_left_alone(name, tmp_path):
    spoil, more, said = BAD[name]
    root = tmp_path / "data"
    fill(root)
    spoil(root)
    before = folder_hash(root)
    with pytest.raises(ManifestError, match=said) as error:
        module(root, tmp_path, **more).prepare_data()
    assert "\n" not in str(error.value) and folder_hash(root) == before


def test_the_mends_work(tmp_path):
    fill(tmp_path / "data")
    nameless(tmp_path / "data")
    both(tmp_path / "data")
    data = module(tmp_path / "data", tmp_path, group="file", allow_leaks=True)
    data.prepare_data()
    assert data.table.group_is == "image" and data.table.rows["group"].is_unique
    (tmp_path / "data/train/NORMAL/scan.jpeg").unlink()
    joined = module(tmp_path / "data", tmp_path, both_classes="join")
    joined.prepare_data()
    assert joined.table.rows.groupby("group")["label"].nunique().max() == 2
    put(tmp_path / "data", "train/NORMAL/case-17.jpeg")
    own = module(
        tmp_path / "data",
        tmp_path,
        both_classes="join",
        patient_patterns=[r"case-(\d+)", r"person(\d+)_", r"IM-(\d+)-"],
    )
    assert "case-17" in set(own.manifest().rows["group"])


def test_color_16_bit_and_transparent_images_are_read(tmp_path):
    fill(tmp_path / "data")
    put(tmp_path / "data", "train/NORMAL/IM-0900-0001.png", mode="RGBA")
    put(tmp_path / "data", "train/NORMAL/IM-0901-0001.jpeg", mode="RGB")
    put(tmp_path / "data", "train/NORMAL/IM-0902-0001.png", mode="I;16")
    (tmp_path / "data/train/NORMAL/.DS_Store").write_bytes(b"x")
    data = module(tmp_path / "data", tmp_path)
    data.prepare_data()
    assert len(data.table) == 75 and data.cleaning["file that is not an image: left out"] == 1


def test_more_than_two_folders_exclude_one_another(tmp_path):
    fill(tmp_path)
    for split in ("train", "val", "test"):
        put(tmp_path, *(f"{split}/TB/person{900 + 20 * len(split) + i}_x.png" for i in range(12)))
    data = module(tmp_path, tmp_path / "c", class_folders=["NORMAL", "PNEUMONIA", "TB"])
    data.prepare_data()
    batch = next(iter(data.val_dataloader()))
    assert data.table.classes == ("NORMAL", "PNEUMONIA", "TB") and batch["label"].sum(
        1
    ).tolist() == [1.0] * len(batch["id"])
