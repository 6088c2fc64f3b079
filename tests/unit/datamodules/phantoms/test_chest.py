"""Tests of chest phantoms: file names, repeatability, brightness baseline and confounders."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from datamodules.formats.image_io import read_image
from datamodules.manifest import manifest
from datamodules.phantoms import chest_findings, chest_xray
from datamodules.phantoms.chest_findings import FINDINGS, draw_radiograph, sample_patient

PATTERNS = (
    r"(person\d+)_(?:bacteria|virus)_\d+",
    r"(NORMAL2-IM-\d{4})-0001(?:-\d{4})?",
    r"(IM-\d{4})-0001(?:-\d{4})?",
    r"(NORMAL-\d+)-\d{4}",
)
NAME = re.compile(rf"(?:{'|'.join(PATTERNS)})\.jpeg")


def auc(pneumonia, score) -> float:
    return float(roc_auc_score(pneumonia, score))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("chest") / "chest_xray"
    chest_xray.write(root, patients=80, size=112)
    return root


@pytest.fixture(scope="module")
def images(folder):
    return sorted(folder.glob("*/*/*.jpeg"))


@pytest.fixture(scope="module")
def pneumonia(images):
    return [path.parent.name == "PNEUMONIA" for path in images]


def patients(paths) -> set[str]:
    return {next(filter(None, NAME.fullmatch(path.name).groups())) for path in paths}


def test_names_tell_the_patients_apart_and_the_folders_leak(folder, images, pneumonia):
    assert len({path.name for path in images}) == len(images) and len(patients(images)) == 80
    assert 0.5 < np.mean(pneumonia) < 0.7 and (folder / "train/PNEUMONIA/.DS_Store").is_file()
    assert {re.sub(r"\d+-\d.*|\d.*", "", path.name) for path in images} == {
        "person",
        "IM-",
        "NORMAL",
        "NORMAL-",
    }
    train, test = (patients(folder.glob(f"{split}/*/*.jpeg")) for split in ("train", "test"))
    assert 2 <= len(train & test) < len(test) / 2


def test_few_patients_fill_every_folder(tmp_path):
    chest_xray.write(tmp_path / "few", patients=24, size=64)
    assert all(
        len(list((tmp_path / "few").glob(f"{split}/{name}/*.jpeg"))) >= 2
        for split in manifest.SPLITS
        for name in chest_xray.CLASSES
    )


def test_a_seed_writes_the_same_files(tmp_path):
    content = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        chest_xray.write(tmp_path / name, patients=24, size=64, seed=seed)
        content.append(
            {
                str(p.relative_to(tmp_path / name)): p.read_bytes()
                for p in (tmp_path / name).rglob("*.jpeg")
            }
        )
    assert content[0] == content[1] and not set(content[0].values()) & set(content[2].values())


def test_brightness_does_not_find_the_pneumonia(images, pneumonia):
    pixels = [read_image(path, channels=1) for path in images]
    for measure in (np.mean, np.std, lambda image: np.quantile(image, 0.9)):
        assert 0.35 < auc(pneumonia, [measure(image) for image in pixels]) < 0.65


def test_the_marker_goes_with_the_class_but_not_always(tmp_path, monkeypatch):
    drawn = []

    def note(random, height, width, patient, findings, marker):
        drawn.append(("opacity" in findings, marker == "AP PORTABLE"))
        return np.zeros((height, width), np.uint8)

    monkeypatch.setattr(chest_xray, "draw_radiograph", note)
    for confounding, low, high in ((0.8, 0.72, 0.88), (0.5, 0.4, 0.6)):
        drawn.clear()
        chest_xray.write(
            tmp_path / str(confounding), patients=160, size=64, confounding=confounding
        )
        assert low < auc(*zip(*drawn, strict=True)) < high and len(set(drawn)) == 4


def test_a_marker_brightens_a_corner_and_every_finding_changes_the_image():
    patient = sample_patient(np.random.default_rng(2))
    plain = draw_radiograph(np.random.default_rng(0), 128, 160, patient)
    marked = draw_radiograph(np.random.default_rng(0), 128, 160, patient, marker="AP PORTABLE")
    rows, columns = np.nonzero(marked != plain)
    assert marked.max() == 255 and len(rows) > 40 and (np.ptp(rows) < 20) and (np.ptp(columns) < 60)
    for finding in FINDINGS:
        assert not np.array_equal(
            plain, draw_radiograph(np.random.default_rng(0), 128, 160, patient, [finding])
        )
    with pytest.raises(ValueError, match="cough"):
        draw_radiograph(np.random.default_rng(0), 64, 64, patient, ["cough"])


def test_images_of_one_patient_are_alike():
    random = np.random.default_rng(1)
    shown = [sample_patient(random) for _ in range(40)]
    one, two = (
        [
            cv2.GaussianBlur(draw_radiograph(random, 96, 112, patient), (0, 0), 2).ravel()
            for patient in shown
        ]
        for _ in range(2)
    )
    alike = np.corrcoef(one, two)[:40, 40:]
    assert np.diag(alike).mean() > alike[~np.eye(40, dtype=bool)].mean() + 0.03


def test_the_table_reads_back(tmp_path):
    chest_findings.write(tmp_path / "table", train=40, val=8, test=12, size=64)
    table = manifest.read_manifest(tmp_path / "table/manifest.csv")
    rows = table.rows
    assert table.classes == chest_findings.CLASSES and table.group_is == "patient"
    assert rows["split"].value_counts().to_dict() == {"train": 40, "val": 8, "test": 12}
    assert np.stack(rows["label"]).shape == (60, 4) and 0.2 < np.stack(rows["label"]).mean() < 0.5
    assert (
        set(rows.groupby("group").size()) == {1, 2}
        and (rows.groupby("group")["split"].nunique() == 1).all()
    )
    assert read_image(Path(rows["image"].iat[0]), channels=1).dtype == np.uint8
