"""Tests of bad bone-scan input: one sentence with a fix before decoding, data untouched."""

import shutil
from pathlib import Path

import pytest

from datamodules.errors import ManifestError, UserError
from tests.conftest import folder_hash
from tests.unit.datamodules.formats.test_voc import BOMB, voc
from tests.unit.datamodules.test_bone_scan import fill, label, labels_of, module, rewrite, scan


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("data") / "bone_scan")


def lines(change):
    def spoil(root: Path) -> None:
        file = root / "wholeBodyPOST/wholeBodyPOST.txt"
        file.write_text(change(file.read_text()))

    return spoil


def xml(text: str):
    return lambda root: (root / "wholeBodyPOST/post/7.xml").write_text(text)


def one_view(root: Path) -> None:
    """Only patients 1 and 2 were seen from behind, too few for three splits."""
    for number in range(3, 41):
        (root / f"wholeBodyPOST/{number}.jpg").unlink()
    label(root, "wholeBodyPOST", labels_of("POST", 2))


def all_normal(root: Path) -> None:
    label(root, "wholeBodyPOST", dict.fromkeys(labels_of("POST", 40), 0))


def deeper(root: Path) -> None:
    (root / "BS-80K").mkdir()
    for folder in ("wholeBodyANT", "wholeBodyPOST"):
        (root / folder).rename(root / "BS-80K" / folder)


def few(root: Path) -> None:
    for view in ("ANT", "POST"):
        for number in range(6, 41):
            (root / f"wholeBody{view}/{number}.jpg").unlink()
        label(root, f"wholeBody{view}", labels_of(view, 5))


def truncated(root: Path) -> None:
    path = root / "wholeBodyPOST/7.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_image(root: Path) -> None:
    (root / "wholeBodyPOST/7.jpg").write_bytes(b"<html>")


BAD_DATA = {
    "no tab": (
        lines(lambda text: text.replace("2.jpg\t", "2.jpg ", 1)),
        "line 2 of {root}/{txt} has no tab",
        "a tab, and 0",
    ),
    "label": (
        lines(lambda text: text.replace("3.jpg\t1", "3.jpg\t3", 1)),
        "line 3 of {root}/{txt} labels '3.jpg' as '3'",
        "0 for",
    ),
    "two labels": (
        lines(lambda text: f"{text}1.jpg\t1\n"),
        "the label of '1.jpg' is 0 in line 1 and 1 in line 41",
        "remove the line",
    ),
    "empty labels": (
        lines(lambda text: ""),
        "wholeBodyPOST.txt holds no label",
        "write one line an image",
    ),
    "missing image": (
        lambda root: [(root / f"wholeBodyANT/{number}.jpg").unlink() for number in (5, 9)],
        (
            "{root}/wholeBodyANT/wholeBodyANT.txt names 2 images that are not in its folder,"
            " such as '5.jpg' in line 5"
        ),
        "datamodule.unmatched=drop",
    ),
    "image without a label": (
        lambda root: scan(root / "wholeBodyPOST/77.jpg", 1),
        (
            "{root}/wholeBodyPOST/wholeBodyPOST.txt does not name 1 images of its folder, such as"
            " '77.jpg'"
        ),
        "'77.jpg<TAB>0'",
    ),
    "no label file": (
        lambda root: [path.unlink() for path in root.glob("*/*.txt")],
        "{root} has no folder that holds a .txt",
        "datamodule.root",
    ),
    "one level up": (deeper, "(but {root}/BS-80K has)", "set datamodule.root to the folder"),
    "broken XML": (
        xml("<annotation><object>"),
        "{root}/wholeBodyPOST/post/7.xml is not XML that can be read",
        "datamodule.bad_boxes=drop",
    ),
    "entity bomb": (
        xml(BOMB),
        "{root}/wholeBodyPOST/post/7.xml declares an entity",
        "datamodule.bad_boxes=drop",
    ),
    "box outside": (
        xml(voc(("Abnormal", (0, 0, 30, 9)))),
        "7.xml has the box 0, 0, 30, 9, which extends 14 pixels beyond the 16 x 64 image",
        "correct it",
    ),
    "inverted box": (
        xml(voc(("Abnormal", (9, 0, 3, 9)))),
        "('Abnormal') has the inverted box 9, 0, 3, 9",
        "write xmin < xmax",
    ),
    "no number": (
        xml(voc(("Abnormal", ("left", 0, 3, 9)))),
        "has xmin 'left'",
        "write a finite number",
    ),
    "another size": (
        lambda root: rewrite(root, image=7, size=(1024, 256)),
        "7.xml says that its image has 1024 x 256 pixels, and 'wholeBodyPOST/7.jpg' has 64 x 16",
        "from the same export",
    ),
    "a view in one split only": (
        one_view,
        "has a wholeBody scan in view POST (2 patients have one)",
        "datamodule.view",
    ),
    "label absent": (all_normal, "shows abnormal", "another seed"),
    "few patients": (
        few,
        "5 groups cannot be split into train, val and test",
        "add more patients",
    ),
    "truncated image": (
        truncated,
        "{root}/wholeBodyPOST/7.jpg cannot be decoded",
        "replace the file",
    ),
    "no image": (no_image, "{root}/wholeBodyPOST/7.jpg is not an image", "replace or remove"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_in_a_sentence_and_left_alone(name, scans, tmp_path):
    spoil, wrong, mend = BAD_DATA[name]
    root = tmp_path / "data"
    shutil.copytree(scans, root)
    spoil(root)
    before = folder_hash(root)
    with pytest.raises(ManifestError) as error:
        module(root, tmp_path).prepare_data()
    said = str(error.value)
    assert (
        wrong.format(root=root, txt="wholeBodyPOST/wholeBodyPOST.txt") in said
        and mend in said
        and "\n" not in said
    ), said
    assert folder_hash(root) == before


LATE = ("label absent", "truncated image")  # what only the split, or the pixels, can tell


@pytest.mark.parametrize("name", sorted(BAD_DATA.keys() - set(LATE)))
def test_it_is_refused_before_any_image_is_decoded(name, scans, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(scans, root)
    BAD_DATA[name][0](root)
    with pytest.raises(ManifestError):
        _ = module(root, tmp_path).table
    assert not (tmp_path / "cache").exists()


BAD_WORDS = {
    "view": ({"view": "post"}, "view=post is not allowed; it must be POST, ANT or both"),
    "unmatched": (
        {"unmatched": "ignore"},
        "unmatched=ignore is not allowed; it must be refuse or drop",
    ),
    "bad boxes": (
        {"bad_boxes": "keep"},
        "bad_boxes=keep is not allowed; it must be refuse or drop",
    ),
    "identical": (
        {"identical": [[828, 2244], [312]]},
        r"datamodule.identical holds [312], which is not a list of two or more patient numbers",
    ),
    "identical text": ({"identical": ["828,2244"]}, "identical=[828,2244] is not allowed"),
    "part": ({"part": "elbow"}, "has no elbow; set datamodule.part to one of wholeBody"),
    "true masks": (
        {"true_masks": "/nowhere/masks"},
        "datamodule.true_masks=/nowhere/masks is not a folder",
    ),
    "root": ({"root": "/nowhere/scans"}, "datamodule.root=/nowhere/scans is not a folder"),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_refused(name, scans, tmp_path):
    words, wrong = BAD_WORDS[name]
    with pytest.raises(UserError) as error:
        _ = module(
            words.get("root", scans),
            tmp_path,
            **{key: value for key, value in words.items() if key != "root"},
        ).table
    assert wrong in str(error.value) and ";" in str(error.value) and "\n" not in str(error.value)
