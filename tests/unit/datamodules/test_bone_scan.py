"""Tests of bone scans in the BS-80K layout: index, splits, boxes, joined patients, data faults."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules.bone_scan import BoneScanDataModule, group_patients, parse_folder_name
from datamodules.formats.image_io import read_image
from datamodules.phantoms import bone_scan
from tests.conftest import folder_hash
from tests.unit.datamodules.formats.test_voc import voc

HEIGHT, WIDTH = 64, 16
VIEWS = {"ANT": 2, "POST": 3}  # every second or third patient is abnormal in that view


def module(root: Path, folder: Path, **more) -> BoneScanDataModule:
    return BoneScanDataModule(
        root=str(root),
        cache_dir=str(folder / "cache"),
        **{"image_size": [128, 64], "num_workers": 0} | more,
    )


def scan(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(noise).save(path)


def label(root: Path, folder: str, labels: dict[str, int]) -> None:
    (root / folder / f"{folder}.txt").write_text(
        "".join(f"{name}\t{value}\n" for name, value in labels.items())
    )


def labels_of(view: str, patients: int) -> dict[str, int]:
    return {f"{number}.jpg": int(number % VIEWS[view] == 0) for number in range(1, patients + 1)}


def fill(root: Path, patients: int = 40, part: str = "wholeBody", boxes: bool = True) -> Path:
    """Write both views of `patients`; each scan has a Normal box, abnormal ones an Abnormal one."""
    for view in VIEWS:
        folder = root / f"{part}{view}"
        (folder / view.lower()).mkdir(parents=True)
        labels = labels_of(view, patients)
        label(root, folder.name, labels)
        for number, (name, abnormal) in enumerate(labels.items()):
            scan(folder / name, 2 * number + (view == "ANT"))
            if boxes:
                drawn = [("Abnormal", (1, 2, 5, 9))] * abnormal + [("Normal", (2, 30, 9, 36))]
                (folder / view.lower() / f"{Path(name).stem}.xml").write_text(voc(*drawn))
    return root


def rewrite(root: Path, *drawn: tuple[str, tuple], image: int = 1, **more) -> None:
    (root / f"wholeBodyPOST/post/{image}.xml").write_text(voc(*drawn, **more))


NAMES = {
    "wholeBodyPOST": ("wholeBody", "", "POST"),
    "kneeLANT": ("knee", "L", "ANT"),
    "shoRPOST": ("shoulder", "R", "POST"),
    "shoulderLPOST": ("shoulder", "L", "POST"),
    "pelvisANT": ("pelvis", "", "ANT"),
    "headANT": ("head", "", "ANT"),
    "elbowLPOST": ("elbow", "L", "POST"),
    "vertbra": ("vertebra", "", ""),
    "vertbraPOST": ("vertebra", "", "POST"),
    "phantomL": ("phantomL", "", ""),
    "ANT": ("ANT", "", ""),
}


@pytest.mark.parametrize("name", NAMES)
def test_part_side_and_view_are_read_from_a_folders_name(name):
    assert parse_folder_name(name) == NAMES[name]


def test_the_index_holds_every_folder_that_labels_its_images(tmp_path):
    root = fill(tmp_path / "data", 12)
    for folder in ("vertbra", "kneeLPOST", "handRANT"):
        (root / folder).mkdir()
        label(root, folder, {"007.png": 1})
        scan(root / folder / "007.png", 1)
    (root / "masks/wholeBodyANT").mkdir(parents=True)
    scan(root / "masks/wholeBodyANT/1.png", 1)
    data = module(root, tmp_path)
    assert (
        list(data.index) == ["id", "folder", "image", "part", "side", "view", "number", "label"]
        and len(data.index) == 12 + 12 + 3
    )
    row = data.index.set_index("id").loc["kneeLPOST/007.png"]
    assert row.tolist() == [
        "kneeLPOST",
        str(root / "kneeLPOST/007.png"),
        "knee",
        "L",
        "POST",
        "7",
        1,
    ]
    assert all(Path(image).is_file() for image in data.index["image"])
    assert data.cleaning["folder whose name has no view, ANT or POST: indexed without one"] == 1
    assert (
        data.cleaning["folder of a body part that BS-80K does not have: indexed by its own name"]
        == 1
    )


def test_one_row_has_all_that_is_known_of_a_scan(tmp_path):
    root = fill(tmp_path / "data")
    masks = tmp_path / "masks/wholeBodyPOST"
    masks.mkdir(parents=True)
    scan(masks / "6.png", 1)
    rewrite(
        root,
        ("Abnormal", (1, 2, 5, 9)),
        ("abnormal ", (0, 0, 17, 20)),
        ("Normal", (2, 30, 9, 36)),
        image=6,
    )
    table = module(root, tmp_path, true_masks=str(tmp_path / "masks")).table
    rows = table.rows.set_index("id")
    row = rows.loc["wholeBodyPOST/6.jpg"]
    assert (row["group"], row["label"], row["view"], row["part"], row["side"]) == (
        "6",
        1,
        "POST",
        "wholeBody",
        "",
    )
    assert row["boxes"] == [[1, 2, 5, 9], [0, 0, 16, 20]] and row["physiological"] == [
        [2, 30, 9, 36]
    ]
    assert (
        row["true_mask"] == str(masks / "6.png")
        and rows.loc["wholeBodyPOST/9.jpg", "true_mask"] is None
    )
    assert (row["height"], row["width"], row["scale"], row["pad_left"], row["pad_top"]) == (
        64,
        16,
        2.0,
        16,
        0,
    )
    assert (
        rows.loc["wholeBodyPOST/1.jpg", "boxes"] == []
        and table.classes == ("abnormal",)
        and table.group_is == "patient"
    )
    assert len(rows) == 40 and "stratum" not in rows and json.dumps(rows["boxes"].tolist())


@pytest.mark.parametrize(
    "more", [{}, {"folds": 3, "fold": 1}, {"seed": 5}, {"split": "group"}], ids=str
)
def test_every_view_has_the_same_split_and_patients_stay_together(more, tmp_path):
    root = fill(tmp_path / "data", 60, boxes=False)
    for number in (11, 23, 35):  # some have one view only, so that the views' own tables differ
        (root / f"wholeBodyANT/{number}.jpg").unlink()
    rows = {
        view: module(root, tmp_path, view=view, unmatched="drop", **more).table.rows
        for view in ("ANT", "POST", "both")
    }
    split = rows["both"].groupby("group")["split"].agg(set)
    assert split.map(len).max() == 1 and len(split) == 60
    assert [len(rows[view]) for view in ("ANT", "POST", "both")] == [57, 60, 117] and set(
        rows["ANT"]["view"]
    ) == {"ANT"}
    for view in ("ANT", "POST"):
        assert all(split[row.group] == {row.split} for row in rows[view].itertuples())
        assert rows[view].index.tolist() == list(range(len(rows[view])))


def test_the_split_balances_the_labels_of_each_view(tmp_path):
    rows = module(fill(tmp_path / "data", 120, boxes=False), tmp_path, view="both").table.rows
    shares = rows.groupby(["view", "split"])["label"].mean()
    assert all(abs(share - 1 / VIEWS[view]) < 0.06 for (view, _), share in shares.items())
    counts = rows.drop_duplicates("group")["split"].value_counts()
    assert counts.to_dict() == {"train": 96, "val": 12, "test": 12}


def test_identical_patients_and_copies_are_one_group(tmp_path):
    root = fill(tmp_path / "data")
    shutil.copy(root / "wholeBodyPOST/8.jpg", root / "wholeBodyPOST/30.jpg")
    data = module(root, tmp_path, identical=[[4, 9], [9, 21], [33, 999]], view="both")
    rows = data.table.rows
    of = rows.groupby("group")["id"].agg(lambda ids: sorted({Path(id).stem for id in ids}, key=int))
    assert (
        of["4"] == ["4", "9", "21"]
        and of["8"] == ["8", "30"]
        and of["33"] == ["33"]
        and rows["group"].nunique() == 37
    )
    assert rows.groupby("group")["split"].nunique().max() == 1
    assert data.cleaning.as_dict()[
        "scan that is a copy of another patient's: they count as one patient"
    ]["examples"] == ["wholeBodyPOST/30.jpg"]
    data.prepare_data()  # nothing leaks


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=3), max_size=6))
def test_joined_numbers_are_the_connected_ones(together):
    numbers = [str(number) for number in range(10)]
    group = group_patients(numbers, [[str(number) for number in some] for some in together])
    reached = {number: {number} for number in range(10)}
    for _ in range(10):
        for some in together:
            everyone = set().union(*(reached[number] for number in some))
            for number in everyone:
                reached[number] = everyone
    assert group == {str(number): str(min(everyone)) for number, everyone in reached.items()}


def test_a_region_is_trained_without_boxes_and_both_sides_are_one_patient(tmp_path):
    root = fill(tmp_path / "data", 12)
    fill(root, 30, "kneeL", boxes=False)
    fill(root, 30, "kneeR", boxes=False)
    rows = module(root, tmp_path, part="knee").table.rows
    assert (
        len(rows) == 60
        and rows["group"].nunique() == 30
        and set(rows["side"]) == {"L", "R"}
        and rows["boxes"].isna().all()
    )
    assert rows.groupby("group")["split"].nunique().max() == 1


def test_warts_are_mended_and_counted(tmp_path):
    root = fill(tmp_path / "data")
    rewrite(
        root,
        ("Abnormal", (-2, 0, 5, 5)),
        ("Abnormal", (3, 3, 3, 9)),
        ("bladder", (1, 1, 2, 2)),
        image=1,
        size=None,
    )
    rewrite(root, ("Normal", (1, 1, 2, 2)), image=3)
    (root / "wholeBodyPOST/post/5.xml").unlink()
    (root / "wholeBodyPOST/post/99.xml").write_text(voc())
    (root / "wholeBodyPOST/Thumbs.db").write_bytes(b"x")
    with (root / "wholeBodyANT/wholeBodyANT.txt").open("a") as file:
        file.write("3.jpg\t0\n\n")
    data = module(root, tmp_path)
    rows = data.table.rows.set_index("id")
    assert (
        rows.loc["wholeBodyPOST/1.jpg", "boxes"] == [[0, 0, 5, 5]]
        and rows.loc["wholeBodyPOST/5.jpg", "boxes"] is None
    )
    assert {reason: found["count"] for reason, found in data.cleaning.as_dict().items()} == {
        "XML without its image: left out": 1,
        "abnormal image without an Abnormal box: the label is used": 1,
        "blank line in a label file: skipped": 1,
        "box that is named neither Normal nor Abnormal: left out": 1,
        "box that extends beyond its image: cut off at the border": 1,
        "box without an area: left out": 1,
        "file that is not an image: left out": 1,
        "image that its label file names twice with the same label: used once": 1,
        "image without an XML: its boxes are unknown": 1,
        "normal image with an Abnormal box: the label is used": 1,
    }


def test_a_gray_16_bit_scan_is_displayed_by_the_window_of_training(tmp_path):
    root = fill(tmp_path / "data")
    (root / "wholeBodyPOST/1.jpg").unlink()
    label(
        root,
        "wholeBodyPOST",
        {
            ("1.png" if name == "1.jpg" else name): value
            for name, value in labels_of("POST", 40).items()
        },
    )
    counts = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 60 + 500
    Image.fromarray(counts).save(root / "wholeBodyPOST/1.png")
    data = module(root, tmp_path, image_size=[64, 32])
    data.prepare_data()
    row = data.table.rows["id"].tolist().index("wholeBodyPOST/1.png")
    low, high = data.display_window()  # of the only deep image, which is a training image
    assert (low, high) == pytest.approx(np.percentile(counts, [0.5, 99.5]), abs=60 * 3)
    expected = np.round(((counts - low) / (high - low)).clip(0, 1) * 255)
    assert (
        np.array_equal(data.cache.image(row, (low, high))[:, 8:24, 0], expected)
        and data.table.rows["boxes"].iat[row] == []
    )


def test_unmatched_and_unusable_files_are_dropped_if_asked(tmp_path):
    root = fill(tmp_path / "data")
    (root / "wholeBodyPOST/2.jpg").unlink()
    scan(root / "wholeBodyPOST/70.jpg", 1)
    rewrite(root, ("Abnormal", (0, 0, 99, 9)), image=4)
    before = folder_hash(root)
    data = module(root, tmp_path, unmatched="drop", bad_boxes="drop")
    data.prepare_data()
    rows = data.table.rows.set_index("id")
    assert len(rows) == 39 and not {"wholeBodyPOST/2.jpg", "wholeBodyPOST/70.jpg"} & set(rows.index)
    assert rows.loc["wholeBodyPOST/4.jpg", "boxes"] is None
    assert (
        data.cleaning["label without its image: left out"]
        == data.cleaning["image without a label: left out"]
        == 1
    )
    assert data.cleaning["XML that cannot be used: the boxes of its image are unknown"] == 1
    assert folder_hash(root) == before


def test_a_batch_holds_the_labels_of_its_scans(tmp_path):
    root = fill(tmp_path / "data")
    data = module(root, tmp_path, view="both", batch_size=8)
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    wanted = {
        f"wholeBody{view}/{name}": value
        for view in VIEWS
        for name, value in labels_of(view, 40).items()
    }
    assert batch["label"][:, 0].tolist() == [wanted[id] for id in batch["id"]] and batch[
        "image"
    ].shape == (8, 1, 128, 64)


def test_phantoms_are_read_whole_and_the_patient_who_is_there_twice_is_one(tmp_path):
    root = tmp_path / "data"
    drawn = partial(bone_scan.write, patients=40, height=128, seed=1)
    data = module(
        root,
        tmp_path,
        image_size=[128, 32],
        view="both",
        true_masks=str(root / "masks"),
        phantom=drawn,
    )
    data.prepare_data()
    rows = data.table.rows
    content: dict[bytes, str] = {}
    first = {
        path.stem: content.setdefault(path.read_bytes(), path.stem)
        for path in sorted(root.glob("wholeBodyANT/*.jpg"))
    }
    twice = {one: other for one, other in first.items() if one != other}
    assert (
        twice and len(rows) == 80 and rows["group"].nunique() == 40 - len(twice) and not data.leaks
    )
    group = rows.groupby(rows["id"].map(lambda id: Path(id).stem))["group"].agg(set)
    assert all(len(groups) == 1 for groups in group) and all(
        group[one] == group[other] for one, other in twice.items()
    )
    for row in rows.itertuples():
        mask = read_image(Path(row.true_mask), 1)[..., 0] > 127
        assert mask.any() == row.label
        for x1, y1, x2, y2 in row.boxes or ():
            assert mask[int(y1) : int(y2), int(x1) : int(x2)].any()
