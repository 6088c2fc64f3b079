"""Tests of bone-scan phantoms: consistent files, one patient in both views, hard by brightness."""

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.phantoms import bone_scan
from datamodules.phantoms.bone_anatomy import LesionConfig
from datamodules.phantoms.bone_scan import REGION_FOLDERS, Visibility, simulate_examination

PATIENTS, HEIGHT, COUNTS = 60, 384, (4e5, 1.8e6)
VIEWS = {"ANT": "wholeBodyANT", "POST": "wholeBodyPOST"}


def gray(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def labels(folder) -> dict[str, int]:
    lines = (folder / f"{folder.name}.txt").read_text().splitlines()
    return {name: int(label) for name, label in (line.split("\t") for line in lines)}


def objects(path, kind) -> list[tuple[int, ...]]:
    found = [
        each for each in ElementTree.parse(path).iter("object") if each.findtext("name") == kind
    ]
    return [
        tuple(int(each.findtext(f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax"))
        for each in found
    ]


def dice(found, mask) -> float:
    return 2 * np.sum(found & mask) / (found.sum() + mask.sum())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bone_scan") / "set"
    bone_scan.write(folder, PATIENTS, HEIGHT, seed=3)
    return folder


@pytest.fixture(scope="module")
def ill(root):
    """Image, mask and XML of every abnormal scan, by view."""
    found = {view: [] for view in VIEWS}
    for view, name in VIEWS.items():
        for number in (
            file.removesuffix(".jpg") for file, label in labels(root / name).items() if label
        ):
            mask = gray(root / f"masks/{name}/{number}.png") > 127
            found[view].append(
                (
                    gray(root / name / f"{number}.jpg"),
                    mask,
                    root / name / view.lower() / f"{number}.xml",
                )
            )
    return found


def test_a_seed_writes_the_same_files_and_another_does_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        bone_scan.write(tmp_path / name, 4, 128, seed=seed)
    files = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    }
    assert files["a"] == files["b"] and files["a"] != files["c"] and len(files["a"]) > 4 * 5


def test_labels_masks_images_and_xml_agree(root):
    missing = 0
    for view, name in VIEWS.items():
        assert list(labels(root / name)) == [f"{number}.jpg" for number in range(1, PATIENTS + 1)]
        for file, label in labels(root / name).items():
            image, mask = (
                cv2.imread(str(root / name / file), cv2.IMREAD_UNCHANGED),
                gray(root / "masks" / name / file.replace("jpg", "png")),
            )
            assert (
                image.shape == mask.shape == (HEIGHT, HEIGHT // 4)
                and set(np.unique(mask)) <= {0, 255}
                and mask.any() == label
            )
            xml = root / name / view.lower() / file.replace("jpg", "xml")
            if xml.is_file():
                assert (
                    int(ElementTree.parse(xml).findtext("size/width")) == HEIGHT // 4
                    and bool(objects(xml, "Abnormal")) == label
                )
            missing += not xml.is_file()
    assert (
        0 < missing < 0.12 * 2 * PATIENTS
        and 0.36
        < np.mean([label for name in VIEWS.values() for label in labels(root / name).values()])
        < 0.55
    )


def test_each_part_of_a_mask_lies_in_a_box_of_its_own(ill):
    for _, mask, xml in (each for view in ill.values() for each in view if each[2].is_file()):
        count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        abnormal = objects(xml, "Abnormal")
        assert len(abnormal) == count - 1
        for part in range(1, count):
            rows, columns = np.nonzero(parts == part)
            assert any(
                x1 <= columns.min() and y1 <= rows.min() and columns.max() < x2 and rows.max() < y2
                for x1, y1, x2, y2 in abnormal
            )


def silhouette(image) -> np.ndarray:
    blurred = cv2.GaussianBlur(np.minimum(image, 60).astype(np.float32), (0, 0), 2)
    return blurred > 0.3 * blurred.mean()


def test_the_posterior_view_is_the_same_patient_mirrored():
    patients = [
        simulate_examination(
            np.random.default_rng(seed), HEIGHT, True, COUNTS, LesionConfig(3.0), 1.0, Visibility()
        ).values()
        for seed in range(12)
    ]
    outlines = [
        [silhouette(image) for image in (ant.image, post.image[:, ::-1])] for ant, post in patients
    ]
    sums: list[int] = []
    for number, (ant, post) in enumerate(patients):
        likeness = [np.mean(outlines[number][0] == other) for _, other in outlines]
        assert np.argmax(likeness) == number and likeness[number] > 0.9
        for (
            x1,
            y1,
            x2,
            y2,
        ) in (
            ant.abnormal
        ):  # its middle lies in the mirrored place wherever the same lesion is seen from behind
            same = [
                u1 + u2
                for u1, v1, u2, v2 in post.abnormal
                if abs(x1 + x2 + u1 + u2 - HEIGHT / 2) < 24 and abs(v1 + v2 - y1 - y2) <= 2
            ]
            sums += [x1 + x2 + same[0]] if same else []
        (x1, _, x2, _), (u1, _, u2, _) = ant.regions["kneeL"], post.regions["kneeL"]
        assert (
            x1 > HEIGHT / 8 - 3 > u1
            and abs(x1 + u2 - HEIGHT / 4) <= 1
            and abs(x2 + u1 - HEIGHT / 4) <= 1
        )
    assert len(sums) > 8 and np.max(np.abs(np.array(sums) / 2 - HEIGHT / 4)) <= 2


def test_brightness_finds_few_lesions(ill):
    for view in ill.values():
        bands = [
            (low, high) for low in range(10, 250, 20) for high in (*range(low + 30, 250, 40), 256)
        ]
        found = [
            [dice((image >= low) & (image < high), mask) for image, mask, _ in view]
            for low, high in bands
        ]
        assert np.max(np.mean(found, 1)) < 0.25
        brightest = [
            mask.flat[cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1).argmax()]
            for image, mask, _ in view
        ]
        assert np.mean(brightest) < 0.5


def test_what_is_healthy_is_mostly_hotter_than_lesions(ill):
    colder = []
    for image, _, xml in (each for view in ill.values() for each in view if each[2].is_file()):
        normal = max(
            (image[y1:y2, x1:x2].max() for x1, y1, x2, y2 in objects(xml, "Normal")), default=0
        )
        colder += [
            image[y1:y2, x1:x2].max() < normal for x1, y1, x2, y2 in objects(xml, "Abnormal")
        ]
    assert np.mean(colder) > 0.6


def test_regions_are_labelled_by_the_lesions_in_them_and_twins_are_identical(root):
    assert (
        bone_scan.duplicate_patients(PATIENTS) == [(2, PATIENTS)]
        and bone_scan.duplicate_patients(3) == []
    )
    for folder in (*VIEWS.values(), *REGION_FOLDERS):
        of_folder = labels(root / folder)
        assert {path.name for path in (root / folder).glob("*.jpg")} == of_folder.keys()
        assert folder in VIEWS.values() or 0 < len(of_folder) < PATIENTS
        one, other = (root / folder / f"{number}.jpg" for number in (2, PATIENTS))
        assert one.is_file() == other.is_file() and (
            not one.is_file() or one.read_bytes() == other.read_bytes()
        )
        assert of_folder.get("2.jpg") == of_folder.get(f"{PATIENTS}.jpg")
        if folder not in VIEWS.values():
            whole = labels(
                root / next(name for view, name in VIEWS.items() if folder.endswith(view))
            )
            assert all(whole[name] >= label for name, label in of_folder.items())


def test_a_foreign_folder_and_senseless_numbers_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("real")
    with pytest.raises(UserError, match="never overwritten"):
        bone_scan.write(tmp_path, 4, 128)
    for wrong in (
        {"patients": 0},
        {"height": 130},
        {"height": 64},
        {"abnormal": 1.5},
        {"counts": (2e6, 1e6)},
    ):
        with pytest.raises(
            UserError, match=rf"(datamodule\.phantom\.|write: ){next(iter(wrong))}="
        ):
            bone_scan.write(tmp_path / "x", **wrong)
    with pytest.raises(UserError, match=r"raise datamodule\.phantom\.uptake"):
        bone_scan.write(tmp_path / "y", 4, 128, min_contrast=1e6)
    assert (tmp_path / "mine.txt").read_text() == "real" and not (tmp_path / "x").exists()
