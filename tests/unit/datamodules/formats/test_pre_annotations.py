"""Tests of annotation files written from predictions: read back exactly, streamed, refused."""

import gc
import json
import weakref
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from datamodules.errors import UserError
from datamodules.formats import predicted_image
from datamodules.formats.coco import write_coco
from datamodules.formats.cvat import write_cvat
from datamodules.formats.label_studio import (
    decode_brush,
    encode_brush,
    labeling_config,
    write_label_studio,
)
from datamodules.formats.layout import FolderTree, LayoutOptions
from datamodules.formats.predicted_image import PredictedImage
from datamodules.formats.registry import find_layout
from datamodules.formats.rle import decode_rle, encode_rle, union_rle
from datamodules.own_data import OwnDataModule
from tests.factories.layouts import draw, save
from tests.factories.layouts import encode_brush as encode_brush_independently

CLASSES = ["lesion", "edema"]


def write_reviewed(path, images, classes):
    return write_label_studio(path, images, classes, section="annotations")


def write_submitted(path, images, classes):
    """Write predictions, and export them as Label Studio does once a person submitted each."""
    write_label_studio(path, images, classes)
    tasks = json.loads(path.read_text("utf-8"))
    for task in tasks:
        [prediction] = task.pop("predictions")
        task["annotations"] = [{"was_cancelled": False, "result": prediction["result"]}]
    path.write_text(json.dumps(tasks))
    return path


FORMATS = {
    "COCO": (write_coco, "predictions.json", "coco"),
    "CVAT": (write_cvat, "annotations.xml", "cvat"),
    "Label Studio": (write_reviewed, "predictions.json", "label_studio"),
    "Label Studio, submitted": (write_submitted, "predictions.json", "label_studio"),
}


def read_masks(root, layout):
    """Read a folder; return the masks `H x W x classes` of each image by its file."""
    tree = FolderTree(root)
    match = find_layout(tree, "masks")
    assert match.layout.name == layout
    masks = {}
    for record in match.layout.read(tree, LayoutOptions()).records:
        of_class = [[o.rle for o in record.outlines if o.name == name] for name in CLASSES]
        masks[record.image] = decode_rle([union_rle(rles) for rles in of_class], *record.size)
    return masks


@pytest.mark.parametrize("kind", FORMATS)
def test_own_data_reads_what_was_predicted(kind, tmp_path):
    write, name, layout = FORMATS[kind]
    root = tmp_path / "data"
    items = draw(size=(64, 64))
    predicted = []
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
        masks = {name: item.labels == k for k, name in enumerate(CLASSES, start=1)}
        predicted.append(PredictedImage.from_masks(f"images/{item.name}.png", masks))
    write(root / name, predicted, CLASSES)
    words = {"image_size": 64, "cache_size": 64, "num_workers": 0, "unannotated": "negative"}
    data = OwnDataModule(root=str(root), cache_dir=str(tmp_path / "cache"), **words)
    assert data.match.layout.name == layout
    data.prepare_data()
    assert len(data.table) == len(items) and set(data.table.classes) == set(CLASSES)
    ids = [id.rpartition("/")[2] for id in data.table.rows["id"]]
    for item in items:
        truth = data.cache.truth(ids.index(item.name), 2)
        for channel, name in enumerate(data.table.classes):
            wanted = item.labels == CLASSES.index(name) + 1
            assert np.array_equal(truth[..., channel].astype(bool), wanted)


@settings(parent=settings.get_profile("quick"), max_examples=15)
@given(
    kind=st.sampled_from(sorted(FORMATS)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.sampled_from([0, 0.02, 0.5, 0.98, 1]),
    seed=st.integers(0, 2**16),
    file=st.sampled_from(["a.png", "ä b&c<'\".png", "100%25.png", "x/y+z#1?.png", "ｎ,n;.png"]),
)
def test_any_mask_of_any_size_survives(kind, size, density, seed, file, tmp_path_factory):
    write, name, layout = FORMATS[kind]
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(seed)
    save(root / file, np.zeros(size, np.uint8))
    masks = {name: rng.random(size) < density for name in CLASSES}
    masks[CLASSES[0]][0, 0] = True  # a file without any mask is no data set
    write(root / name, [PredictedImage.from_masks(file, masks)], CLASSES)
    [read] = read_masks(root, layout).values()
    assert np.array_equal(read.astype(bool), np.stack(list(masks.values()), axis=-1))


def test_pycocotools_agrees_on_masks_areas_and_boxes(tmp_path, capsys):
    mask = np.zeros((6, 9), bool)
    mask[1:3, 2:7] = True  # 10 pixels
    mask[4, 8] = mask[5, 7] = True  # touch at a corner: one lesion
    image = PredictedImage.from_masks(
        "a.png", {"lesion": mask, "edema": np.zeros_like(mask)}, {"lesion": 0.75}
    )
    coco = COCO(write_coco(tmp_path / "c.json", [image, image], CLASSES))
    assert coco.loadCats([1, 2]) == [{"id": 1, "name": "lesion"}, {"id": 2, "name": "edema"}]
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [(a["area"], a["bbox"], a["category_id"], a["score"]) for a in found] == [
        (10, [2, 1, 5, 2], 1, 0.75),
        (2, [7, 4, 2, 2], 1, 0.75),
    ]
    union = np.logical_or(*[coco.annToMask(annotation) for annotation in found])
    assert np.array_equal(union, mask)
    assert coco.getAnnIds(imgIds=[2]) == [3, 4]


def test_cvat_runs_are_those_of_its_documentation(tmp_path):
    """A mask of 3 x 4 pixels in an image, as CVAT numbers it: by rows, the first run outside."""
    mask = np.zeros((5, 6), bool)
    mask[1] = [0, 0, 1, 1, 0, 0]
    mask[2] = [0, 1, 1, 1, 1, 0]
    mask[3] = [0, 1, 0, 0, 0, 0]
    image = PredictedImage.from_masks("a.png", {"lesion": mask})
    root = ElementTree.parse(write_cvat(tmp_path / "a.xml", [image], CLASSES)).getroot()
    shape = root.find("image/mask")
    assert shape.get("rle") == "1, 2, 1, 5, 3"
    assert [shape.get(key) for key in ("left", "top", "width", "height")] == ["1", "1", "4", "3"]
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == CLASSES


def test_brush_bytes_are_those_of_the_format():
    """Two pixels, the second one marked: 8 values, 8 bits each, then two runs of 4."""
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]
    assert encode_brush(np.array([[0, 1]], np.uint8)) == expected


def test_long_runs_of_a_brush_are_split():
    mask = np.zeros((300, 301), np.uint8)
    mask[150:, 7:] = 1
    packed = encode_brush(mask)
    assert np.array_equal(decode_brush(packed, 300, 301), mask)
    small = mask[140:160, :20]
    slower = encode_brush_independently(small)
    assert np.array_equal(decode_brush(slower, 20, 20), decode_brush(encode_brush(small), 20, 20))


def test_predictions_are_no_annotations_before_a_person_submits_them(tmp_path):
    save(tmp_path / "a.png", np.zeros((5, 5), np.uint8))
    image = PredictedImage.from_masks("a.png", {"lesion": np.eye(5, dtype=bool)})
    write_label_studio(tmp_path / "p.json", [image], CLASSES)
    tree = FolderTree(tmp_path)
    [record] = find_layout(tree, "masks").layout.read(tree, LayoutOptions()).records
    assert not record.annotated and not record.outlines


def test_decisions_on_images_become_choices_and_tags(tmp_path):
    image = PredictedImage("a.png", 4, 5, probabilities={"lesion": 0.9}, positive=["lesion"])
    [task] = json.loads(write_label_studio(tmp_path / "l.json", [image], CLASSES).read_text())
    [prediction] = task["predictions"]
    assert prediction["score"] == 0.9
    [result] = prediction["result"]
    assert result["value"] == {"choices": ["lesion"]}
    view = ElementTree.fromstring(labeling_config(CLASSES))
    assert view.find("Choices").get("name") == result["from_name"]
    assert view.find("Image").get("name") == result["to_name"]
    root = ElementTree.parse(write_cvat(tmp_path / "a.xml", [image], CLASSES)).getroot()
    assert [tag.get("label") for tag in root.iterfind("image/tag")] == ["lesion"]


def test_names_of_the_interface_are_those_of_the_results(tmp_path):
    image = PredictedImage.from_masks("a.png", {"lesion": np.eye(5, dtype=bool)})
    [task] = json.loads(write_label_studio(tmp_path / "l.json", [image], CLASSES).read_text())
    view = ElementTree.fromstring(labeling_config(CLASSES))
    result = task["predictions"][0]["result"][0]
    assert view.find("BrushLabels").get("name") == result["from_name"]
    assert [label.get("value") for label in view.iterfind("BrushLabels/Label")] == CLASSES


def test_smallest_of_many_lesions_share_a_shape(monkeypatch, tmp_path):
    monkeypatch.setattr(predicted_image, "MAX_LESIONS", 3)
    mask = np.zeros((9, 9), bool)
    mask[::2, ::2] = True
    mask[0, :2] = mask[2, :2] = True
    image = PredictedImage.from_masks("a.png", {"lesion": mask})
    content = json.loads(write_coco(tmp_path / "c.json", [image], CLASSES).read_text())
    assert [annotation["area"] for annotation in content["annotations"]] == [
        3,
        3,
        21,
    ]  # of 27 pixels


@pytest.mark.parametrize("write", [write_coco, write_cvat, write_label_studio])
def test_images_are_written_as_they_come_and_not_kept(write, tmp_path):
    alive, most = [], 0

    def predictions():
        nonlocal most
        for n in range(20):
            image = PredictedImage.from_masks(f"{n}.png", {"lesion": np.eye(5, dtype=bool)})
            alive.append(weakref.ref(image))
            gc.collect(0)
            most = max(most, sum(each() is not None for each in alive))
            yield image
            del image

    write(tmp_path / "file", predictions(), CLASSES)
    assert most <= 2  # the image before is let go once the next one is there


@pytest.mark.parametrize("write", [write_coco, write_cvat, write_label_studio])
def test_interrupted_writing_leaves_the_file_as_it_was(write, tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def predictions():
        yield PredictedImage.from_masks("a.png", {"lesion": np.eye(5, dtype=bool)})
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write(path, predictions(), CLASSES)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_coco, write_cvat, write_label_studio])
def test_no_image_gives_a_file_that_can_be_parsed(write, tmp_path):
    text = write(tmp_path / "file", [], CLASSES).read_text()
    if write is write_cvat:
        assert ElementTree.fromstring(text).find("image") is None
    else:
        content = json.loads(text)
        assert content == [] or content["images"] == content["annotations"] == []


RLE = encode_rle(np.eye(4, dtype=np.uint8)[..., None])[0]
WRONG = {
    "class": (PredictedImage("a.png", 4, 4, {"mass": RLE}), "the class 'mass', which is none of"),
    "size": (PredictedImage("a.png", 4, 5, {"lesion": RLE}), "has 4 x 5 pixels, and its mask of"),
    "name": (PredictedImage("a\x01.png", 4, 4), r"the file name 'a\\x01.png' has characters"),
    "bytes": (PredictedImage("a\udcff.png", 4, 4), "characters that are no text"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("write", [write_coco, write_cvat, write_label_studio])
def test_predictions_that_do_not_fit_are_refused(kind, write, tmp_path):
    image, sentence = WRONG[kind]
    with pytest.raises(UserError, match=sentence) as refusal:
        write(tmp_path / "file", [image], CLASSES)
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())
