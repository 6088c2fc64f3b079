"""Tests of Pascal VOC files: round trip, clipping of boxes and refusal of malformed XML."""

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import ManifestError
from datamodules.formats.voc import fit_to_image, read_voc


def voc(*objects: tuple[str, tuple], size: tuple[int, int] | None = (64, 16)) -> str:
    """An annotation as LabelImg writes it."""
    root = Element("annotation")
    SubElement(root, "filename").text = "1.jpg"
    if size:
        said = SubElement(root, "size")
        SubElement(said, "width").text, SubElement(said, "height").text = str(size[1]), str(size[0])
    for name, corners in objects:
        entry = SubElement(root, "object")
        SubElement(entry, "name").text = name
        box = SubElement(entry, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            SubElement(box, corner).text = str(value)
    return tostring(root, "unicode")


def put(folder: Path, text: str) -> Path:
    (folder / "1.xml").write_text(text, encoding="utf-8")
    return folder / "1.xml"


def test_names_corners_and_size_come_as_they_stand(tmp_path):
    found = read_voc(put(tmp_path, voc(("Abnormal", (1, 2, 3, 4)), (" Normal ", (0.5, 0, 16, 64)))))
    assert found.objects == (
        ("Abnormal", (1.0, 2.0, 3.0, 4.0)),
        ("Normal", (0.5, 0.0, 16.0, 64.0)),
    ) and found.size == (64, 16)


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_an_annotation_may_leave_its_size_and_objects_out(size, tmp_path):
    found = read_voc(put(tmp_path, voc(size=size)))
    assert found.size is None and found.objects == ()


def test_a_declared_encoding_is_believed(tmp_path):
    (tmp_path / "1.xml").write_bytes(
        (
            '<?xml version="1.0" encoding="latin-1"?>'
            "<annotation><folder>Größe</folder></annotation>"
        ).encode("latin-1")
    )
    assert read_voc(tmp_path / "1.xml").objects == ()


SIDES = st.tuples(st.integers(-2, 18), st.integers(-2, 66))


@given(SIDES, SIDES)
def test_a_box_is_cut_at_the_border_and_nowhere_else(first, second):
    (x1, x2), (y1, y2) = (sorted(pair) for pair in zip(first, second, strict=True))
    inside = fit_to_image(None, (x1, y1, x2, y2), height=64, width=16, tolerance=2)
    pixels = {(x, y) for x in range(x1, x2) for y in range(y1, y2) if 0 <= x < 16 and 0 <= y < 64}
    assert {
        (x, y)
        for x in range(int(inside[0]), int(inside[2]))
        for y in range(int(inside[1]), int(inside[3]))
    } == pixels
    assert 0 <= inside[0] <= inside[2] <= 16 and 0 <= inside[1] <= inside[3] <= 64


@pytest.mark.parametrize("corners", [(-3, 0, 5, 5), (0, -3, 5, 5), (0, 0, 19, 5), (0, 0, 5, 67)])
def test_a_box_further_out_is_refused_on_each_side(corners, tmp_path):
    found = read_voc(put(tmp_path, voc(("Abnormal", corners))))
    with pytest.raises(
        ManifestError,
        match=r"1\.xml has the box .*, which extends 3 pixels beyond the 16 x 64 image; correct",
    ):
        fit_to_image(found, found.objects[0][1], 64, 16, tolerance=2)
    fit_to_image(found, found.objects[0][1], 64, 16, tolerance=3)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b'
    ' "&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
)
FILE = (
    "<!DOCTYPE x [<!ENTITY a SYSTEM"
    ' "file:///etc/hostname">]><annotation><filename>&a;</filename></annotation>'
)
WHOLE = voc(("Abnormal", (1, 2, 3, 4)))
BAD = {
    "cut short": (
        WHOLE[:-20],
        r"1\.xml is not XML that can be read \(.*line 1, column \d+\); export it again, or remove",
    ),
    "empty": ("", r"1\.xml is not XML that can be read"),
    "unknown encoding": (
        '<?xml version="1.0" encoding="klingon"?><annotation/>',
        r"1\.xml is not XML that can be read \(.*encoding",
    ),
    "entity bomb": (
        BOMB,
        (
            r"1\.xml declares an entity \(EntitiesForbidden\), which no annotation needs; export it"
            r" again"
        ),
    ),
    "entity of a file": (FILE, r"1\.xml declares an entity \(EntitiesForbidden\)"),
    "other XML": ("<html></html>", r"1\.xml is not a Pascal VOC annotation \(its root is <html>\)"),
    "no name": (WHOLE.replace("Abnormal", " "), r"object 1 of .*1\.xml has no <name>"),
    "no corner": (
        WHOLE.replace("<ymax>4</ymax>", ""),
        r"object 1 of .*1\.xml \('Abnormal'\) has no <ymax>; write a finite number",
    ),
    "no number": (
        WHOLE.replace("<xmax>3", "<xmax>three"),
        r"object 1 of .*\('Abnormal'\) has xmax 'three'; write a finite number",
    ),
    "not finite": (WHOLE.replace("<xmax>3", "<xmax>inf"), r"has xmax 'inf'; write a finite number"),
    "inverted": (
        voc(("Normal", (1, 1, 5, 5)), ("Abnormal", (9, 2, 3, 4))),
        r"object 2 of .*inverted box 9, 2, 3, 4; write xmin < xmax",
    ),
    "size": (
        WHOLE.replace("<width>16", "<width>wide"),
        r"the size of .*1\.xml has width 'wide'; write a finite number",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_in_a_sentence(name, tmp_path):
    text, said = BAD[name]
    with pytest.raises(ManifestError, match=said) as error:
        read_voc(put(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"1\.xml does not exist; export it again"):
        read_voc(tmp_path / "1.xml")
