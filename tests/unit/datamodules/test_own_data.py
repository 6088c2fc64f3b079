"""Tests that one data set, written in every layout, is read as it was drawn."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import ManifestError
from datamodules.own_data import OwnDataModule
from tests.factories.layouts import (
    JOINED,
    LAYOUTS,
    NAMED,
    SPLIT,
    draw,
    image_mask_folders,
    labelme,
    save,
)

NAMES = ["edema", "lesion"]


def own(root: Path, **more) -> OwnDataModule:
    words = {"image_size": 64, "cache_size": 64, "num_workers": 0} | more
    return OwnDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


def expected(item, joined: bool) -> np.ndarray:
    if joined:
        return (item.labels > 0).astype(np.uint8)[..., None]
    return np.stack([item.labels == k for k in (1, 2)], axis=-1).astype(np.uint8)


def find_row(data: OwnDataModule, name: str) -> int:
    found = [n for n, id in enumerate(data.table.rows["id"]) if name in Path(id).name]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_those_that_were_drawn(name, tmp_path):
    write, layout = LAYOUTS[name]
    root = tmp_path / "data"
    root.mkdir()
    items = draw(size=(64, 64))
    write(root, items, NAMES)
    data = own(root, unannotated="negative")
    assert data.match.layout.name == layout
    data.prepare_data()
    assert len(data.table) == len(items)
    if name not in JOINED:
        assert len(data.table.classes) == 2
        if name in NAMED:
            assert sorted(data.table.classes) == NAMES
    for item in items:
        row = find_row(data, item.name if name != "pairs" else f"{item.name}")
        truth = expected(item, name in JOINED)
        order = [NAMES.index(c) for c in data.table.classes] if name in NAMED else None
        truth = truth if order is None else truth[..., order]
        classes = truth.shape[2]
        assert np.array_equal(data.cache.truth(row, classes), truth), item.name
        assert np.array_equal(data.cache.mask(row, classes), truth), item.name
        assert np.array_equal(data.cache.images[row][..., 0], item.image)
        if name in SPLIT:
            assert data.table.rows["split"].iat[row] == item.split


@settings(parent=settings.get_profile("quick"), max_examples=12)
@given(
    name=st.sampled_from(sorted(LAYOUTS)),
    size=st.tuples(st.integers(24, 60), st.integers(30, 60)),
    seed=st.integers(0, 2**16),
)
def test_sizes_and_shapes_of_any_kind_are_read_as_drawn(name, size, seed, tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "data"
    root.mkdir()
    items = draw(size=size, seed=seed)
    LAYOUTS[name][0](root, items, NAMES)
    data = own(root, unannotated="negative")
    try:
        data.prepare_data()
    except ManifestError as error:  # in each file the values 1 to n, each one connected area
        assert "they may number objects of one class" in str(error)
        return
    order = [NAMES.index(c) for c in data.table.classes] if name in NAMED else slice(None)
    for item in items:
        truth = expected(item, name in JOINED)[..., order]
        row = find_row(data, item.name)
        assert np.array_equal(data.cache.truth(row, truth.shape[2]), truth), (name, item.name)


def images(root: Path, *files: str) -> Path:
    for n, file in enumerate(files):
        noise = np.random.default_rng(n).integers(0, 255, (40, 40)).astype(np.uint8)
        save(root / file, noise)
    return root


def labels(root: Path, **more) -> OwnDataModule:
    return own(root, task="labels", image_size=32, cache_size=32, **more)


def test_two_class_folders_of_which_one_means_nothing_give_a_positive_class(tmp_path):
    files = [f"{c}/{n}.png" for c in ("Normal", "Pneumonia") for n in range(20)]
    data = labels(images(tmp_path / "data", *files))
    assert data.match.layout.name == "class_folders"
    assert data.table.classes == ("Pneumonia",) and not data.table.exclusive
    assert data.table.rows["label"].tolist() == [0] * 20 + [1] * 20


def test_other_class_folders_are_exclusive_classes(tmp_path):
    files = [f"train/{c}/{n}.png" for c in ("cat", "dog", "owl") for n in range(10)]
    files += [
        f"{s}/{c}/{n}.png" for s in ("val", "test") for c in ("cat", "dog", "owl") for n in (50,)
    ]
    data = labels(images(tmp_path / "data", *files))
    assert data.table.classes == ("cat", "dog", "owl") and data.table.exclusive
    rows = data.table.rows
    assert all(
        label == ["cat", "dog", "owl"].index(id.split("/")[1])
        for label, id in zip(rows["label"], rows["id"], strict=True)
    )
    assert rows["split"].value_counts().to_dict() == {"train": 30, "val": 3, "test": 3}


TABLES = {
    "names": (["NORMAL", "PNEUMONIA"], ("PNEUMONIA",), lambda n: n % 2),
    "yes and no": (["no", "yes"], ("positive",), lambda n: n % 2),
    "True and False": (["False", "True"], ("positive",), lambda n: n % 2),
    "1.0 and 0.0": (["0.0", "1.0"], ("positive",), lambda n: n % 2),
    "several": (["a", "b", "c"], ("a", "b", "c"), lambda n: n % 3),
    "lists": (["No Finding", "a|b", "b"], ("a", "b"), lambda n: [[0, 0], [1, 1], [0, 1]][n % 3]),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "csv-semicolon", "csv-tab"])
def test_csv_label_text(kind, separator, tmp_path):
    texts, classes, expected_label = TABLES[kind]
    root = images(tmp_path / "data", *[f"films/{n:05d}.png" for n in range(30)])
    lines = [separator.join(["Image Index", "Finding Labels", "Patient ID"])]
    lines += [
        separator.join([f"{n:05d}.png", texts[n % len(texts)], f"p{n // 2}"]) for n in range(30)
    ]
    (root / "table.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    data = labels(root, columns={"group": "Patient ID"})
    assert data.table.classes == classes
    assert data.table.rows["label"].tolist() == [expected_label(n) for n in range(30)]
    assert data.table.group_is == "patient" and data.table.rows["group"].nunique() == 15


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_any_encoding(encoding, tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    lines = ["path;label"] + [f"{n}.png;{('gesund', 'Entzündung')[n % 2]}" for n in range(30)]
    (root / "table.csv").write_text("\n".join(lines), encoding=encoding)
    assert labels(root).table.classes == ("Entzündung",)  # gesund means that nothing was found


def test_a_table_that_is_utf_8_in_a_part_would_have_each_name_twice(tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    lines = [f"{n}.png;{('kränk', 'Entzündung')[n % 2]}\n" for n in range(30)]
    parts = "".join(["path;label\n", *lines[:15]]).encode(), "".join(lines[15:]).encode("cp1252")
    (root / "table.csv").write_bytes(b"".join(parts))
    with pytest.raises(ManifestError, match=r"table\.csv .*only a part of it is UTF-8; save it as"):
        _ = labels(root).table
    (root / "table.csv").write_bytes("path;label\n0.png;乮乯\n".encode("gbk"))
    with pytest.raises(ManifestError, match=r"table\.csv .*it is not in UTF-8; save it as UTF-8"):
        _ = labels(root).table


@pytest.mark.parametrize("odd", ["0.5", "inf", "-1e400", "1.25", "-1"])
def test_numbers_that_are_not_whole_are_no_classes(odd, tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    lines = ["path,label"] + [f"{n}.png,{('0', '1', '2.0', odd)[n % 4]}" for n in range(30)]
    (root / "table.csv").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=rf"table\.csv: label holds the number {odd}, which is"):
        _ = labels(root).table


def test_one_column_per_finding(tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    lines = ["path,patient,effusion,nodule"]
    lines += [f"films/{n}.png,p{n},{n % 2},{int(n % 3 == 0)}" for n in range(30)]
    (root / "table.csv").write_text("\n".join(lines))
    data = labels(root)
    assert data.table.classes == ("effusion", "nodule")
    assert data.table.rows["label"].tolist() == [[n % 2, int(n % 3 == 0)] for n in range(30)]


def test_columns_of_any_name_and_names_of_any_form(tmp_path):
    root = images(tmp_path / "data", *[f"films/{n:05d}.png" for n in range(30)])
    forms = ["{:05d}.dcm", "{:05d}", "{}", "films/{:05d}.png", ".\\films\\{:05d}.png"]
    lines = ["bild,befund"]
    lines += [f"{forms[n % 5].format(n)},{'ab'[n % 2]}" for n in range(30)]
    (root / "table.csv").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=r"holds 31 files .* Looked for .*label_table"):
        _ = labels(root).table
    data = labels(root, layout="label_table", columns={"image": "bild", "label": "befund"})
    assert len(data.table) == 30 and data.table.rows["label"].tolist() == [n % 2 for n in range(30)]


def test_csv_group_na(tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])

    def write(missing: int) -> None:
        lines = ["path,label,patient"]
        lines += [f"{n}.png,{'ab'[n % 2]},{'NA' if n < missing else n}" for n in range(30)]
        (root / "table.csv").write_text("\n".join(lines))

    write(20)
    with pytest.raises(ManifestError, match="20 of 30 images have the patient 'NA'"):
        _ = labels(root).table
    write(3)
    assert labels(root).table.rows["group"].tolist()[:4] == ["NA", "NA", "NA", "3"]


def test_csv_blank_label(tmp_path):
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    lines = ["path,label"] + [f"{n}.png,{'ab'[n % 2] if n != 7 else ''}" for n in range(30)]
    (root / "table.csv").write_text("\n".join(lines))
    data = labels(root)
    assert len(data.table) == 29
    assert data.cleaning["image without annotation: left out"] == 1
    with pytest.raises(ManifestError, match=r"1 images have no annotation, such as films/7\.png"):
        _ = labels(root, unannotated="refuse").table
    with pytest.raises(ManifestError, match=r"datamodule\.unannotated=negative is for masks"):
        _ = labels(root, unannotated="negative").table


REFUSED = {
    "no layout": (
        lambda root: images(root, "a.png", "b.png"),
        "has no layout that is known for masks: it holds 2 files (2 png) in its top folder",
    ),
    "two layouts": (
        lambda root: (
            image_mask_folders(root, draw(), NAMES),
            labelme(root / "images", draw(), NAMES),
        ),
        "may be read in several ways: image_mask_folders .* labelme .*; choose one with",
    ),
    "names that do not match": (
        lambda root: images(
            root,
            *[f"{k}/{c}{n}.png" for k, c in (("images", "a"), ("masks", "b")) for n in range(12)],
        ),
        "no mask has the name of an image, such as images/a0.png, images/a1.png and masks/b0.png",
    ),
    "a mask that fits two images": (
        lambda root: images(root, "images/a.png", "images/a.jpg", "masks/a.png"),
        "the mask masks/a.png fits images/a.jpg, images/a.png",
    ),
    "masks in two folders": (
        lambda root: images(root, "images/a.png", "masks/x/a.png"),
        "no mask has the name",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_uncertain_is_refused(kind, tmp_path):
    make, sentence = REFUSED[kind]
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    with pytest.raises(ManifestError) as refusal:
        own(tmp_path / "data").prepare_data()
    assert re.search(sentence.replace("(", r"\(").replace(")", r"\)"), str(refusal.value)), (
        refusal.value
    )


def test_folder_junk(tmp_path):
    root = tmp_path / "data"
    image_mask_folders(root, draw(), NAMES)
    for junk in ("images/._case00.png", "images/Thumbs.db", ".DS_Store", "__MACOSX/images/._a.png"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    data = own(root)
    data.prepare_data()
    assert len(data.table) == 24


def test_leftovers_are_counted_and_groups_come_from_the_name(tmp_path):
    root = tmp_path / "data"
    image_mask_folders(root, draw(), NAMES)
    (root / "masks/case03.png").unlink()
    (root / "images/case07.png").unlink()
    data = own(root, group_pattern=r"case(\d)")
    manifest = data.read_manifest()
    assert manifest.group_is == "patient" and manifest.rows["group"].nunique() == 3
    found = data.cleaning.as_dict()
    assert found["mask without an image of its name: left out"]["examples"] == ["masks/case07.png"]
    left = "image without annotation: left out (datamodule.unannotated=negative uses it)"
    assert found[left]["examples"] == ["images/case03.png"]
    with pytest.raises(ManifestError, match="does not occur in images/case00"):
        own(root, group_pattern="(patient)").read_manifest()


def test_csv_other_size(tmp_path):
    """Run lengths made for 80 px would fit images of 40 px, at wrong places."""
    root = images(tmp_path / "data", *[f"films/{n}.png" for n in range(30)])
    drawn = np.zeros((80, 80), np.uint8)
    drawn[10:30, 20:24] = 1
    starts = [f"{column * 80 + 10 + 1} 20" for column in range(20, 24)]
    lines = ["ImageId,EncodedPixels"] + [
        f"{n}.png,{' '.join(starts) if n % 2 else 'nan'}" for n in range(30)
    ]
    (root / "train.csv").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=r"set datamodule\.rle_size=image if they were made"):
        _ = own(root).table
    data = own(root, rle_size=80)
    data.prepare_data()
    row = data.table.rows["id"].tolist().index("films/1")
    assert np.array_equal(data.cache.truth(row, 1)[..., 0], drawn[::2, ::2])
    assert data.cache.areas[data.table.rows["id"].tolist().index("films/2")].tolist() == [0]
    with pytest.raises(ManifestError, match=r"do not fit 40 x 40 pixels .* datamodule\.rle_size"):
        _ = own(root, rle_size="image").table


ODD_NAMES = ["a (1)", "b, c", "d=e", "[f]", "g#h", "ä ö", "i'j", "k%20l", "m.n.o", "p;q", "r\\s"]


def test_names_with_any_characters_are_matched(tmp_path):
    root = tmp_path / "dätä [1], a=b (2)"
    items = draw(24, size=(64, 64))
    for item, name in zip(items, ODD_NAMES, strict=False):
        item.name = name
    image_mask_folders(root, items, NAMES)
    composed = root / "images" / unicodedata.normalize("NFC", "ä ö.png")
    composed.rename(composed.with_name(unicodedata.normalize("NFD", "ä ö.png")))
    data = own(root)
    data.prepare_data()
    assert len(data.table) == 24 and not data.cleaning.as_dict()
    for item in items:
        ids = data.table.rows["id"].tolist()
        row = ids.index(f"images/{item.name}")
        assert np.array_equal(data.cache.truth(row, 2), expected(item, joined=False))


def test_a_table_names_files_of_any_characters(tmp_path):
    root = images(tmp_path / "data", *[f"films/{name}.png" for name in ODD_NAMES[:-1]])
    lines = ["path,label"] + [
        f'"films/{name}.png",{"ab"[n % 2]}' for n, name in enumerate(ODD_NAMES[:-1])
    ]
    (root / "table.csv").write_text("\r\n".join(lines), encoding="utf-8")
    assert labels(root).read_manifest().rows["label"].tolist() == [n % 2 for n in range(10)]
