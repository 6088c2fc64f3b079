"""Hostile annotation files: COCO and the other label formats."""

import base64
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import NAMES, Template, small_items
from datamodules.own_data import OwnDataModule
from tests.factories import layouts

Change = Callable[[Path], Any]
KINDS = (
    *("COCO", "YOLO", "Pascal VOC", "CVAT", "LabelMe", "Label Studio", "nnU-Net"),
    "class folders",
)


def own_data(folder: Path, **more: Any) -> OwnDataModule:
    """Return the data module of the folder `data`, as a user's run builds it."""
    base = {"cache_dir": str(folder / "cache"), "image_size": 32, "num_workers": 0}
    return OwnDataModule(root=str(folder / "data"), **base, **more)


def prepared(data: Any) -> Any:
    """Prepare a data module, and decode every image and mask of it."""
    data.prepare_data()
    return data


def has_drawn_masks(data: Any, left_out: int = 0, classes: int = 2) -> bool:
    """Return True if the masks of all images are those that were drawn."""
    from datamodules.formats.rle import decode_rle

    items = {item.name: item for item in small_items(classes=classes)}
    expected = {name for name, item in items.items() if item.labels.any()}
    found = {Path(str(id)).name for id in data.table.rows["id"]}
    if len(expected - found) != left_out:
        return False
    for row, id in enumerate(data.table.rows["id"]):
        item = items[Path(str(id)).name]
        height, width = item.labels.shape
        masks = decode_rle(data.table.rles(row), height, width)
        for k, name in enumerate(data.table.classes):
            if not np.array_equal(masks[..., k] > 0, item.labels == NAMES.index(name) + 1):
                return False
    return True


def has_area(area: float, tolerance: float) -> Callable[[Any], bool]:
    """Return a function that returns True if the first annotation's mask has an area in pixels."""

    def right(data: Any) -> bool:
        from datamodules.formats.rle import decode_rle

        item = small_items()[0]
        row = next(
            n for n, id in enumerate(data.table.rows["id"]) if Path(str(id)).name == item.name
        )
        masks = decode_rle(data.table.rles(row), *item.labels.shape)
        first = int(item.labels[item.labels > 0].min()) - 1  # annotations are in order of classes
        found = masks[..., list(data.table.classes).index(NAMES[first])] > 0
        return bool(abs(found.sum() - area) <= tolerance)

    return right


def _case(
    kind: str,
    name: str,
    write: Callable[..., None],
    change: Change,
    names: tuple[str, ...] = (),
    right: Callable[[Any], bool] | None = None,
    classes: int = 2,
    **more: Any,
) -> Case:
    def prepare(folder: Path) -> Action:
        root = folder / "data"
        root.mkdir()
        write(root, small_items(classes=classes), NAMES[:classes])
        change(root)
        return lambda: prepared(own_data(folder, **more))

    return Case(kind, name, prepare, names, right)


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of annotation files."""
    yield from _coco()
    yield from _coco_files()
    yield from _yolo()
    yield from _voc()
    yield from _cvat()
    yield from _labelme()
    yield from _label_studio()
    yield from _nnunet()
    yield from _class_folders()


COCO_FILE = "annotations/instances_default.json"


def _json_change(file: str, change: Callable[[Any], Any]) -> Change:
    """Return a function that changes the content of a JSON file."""

    def write(root: Path) -> None:
        path = root / file
        content = json.loads(path.read_text())
        replaced = change(content)
        path.write_text(json.dumps(content if replaced is None else replaced))

    return write


def _text_change(file: str, change: Callable[[str], str | bytes]) -> Change:
    def write(root: Path) -> None:
        text = change((root / file).read_text())
        (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def _set(*path: Any, value: Any) -> Callable[[Any], None]:
    """Return a function that sets a value at a place of nested JSON."""

    def put(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return put


def _coco() -> Iterator[Case]:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    huge = 10**400
    places: dict[str, tuple[Any, ...]] = {
        "image.id": ("images", 0, "id"),
        "image.file_name": ("images", 0, "file_name"),
        "image.height": ("images", 0, "height"),
        "image.width": ("images", 0, "width"),
        "annotation.id": ("annotations", 0, "id"),
        "annotation.image_id": ("annotations", 0, "image_id"),
        "annotation.category_id": ("annotations", 0, "category_id"),
        "annotation.segmentation": ("annotations", 0, "segmentation"),
        "category.id": ("categories", 0, "id"),
        "category.name": ("categories", 0, "name"),
        "images": ("images",),
        "annotations": ("annotations",),
        "categories": ("categories",),
        "an image": ("images", 0),
        "an annotation": ("annotations", 0),
        "a category": ("categories", 0),
    }
    values: dict[str, Any] = {
        "null": None,
        "a list": [1, 2],
        "a mapping": {"a": 1},
        "true": True,
        "a huge integer": huge,
        "NaN": float("nan"),
        "text": "abc",
    }
    ids = ("annotation.id",)  # it may be anything that is unique; only messages name it
    for place, path in places.items():
        for kind, value in values.items():
            right = has_drawn_masks if place in ids else None
            if place == "category.name" and kind == "text":
                continue
            yield _coco_case(f"{place} is {kind}", _set(*path, value=value), right=right)
    polygon = ("annotations", 0, "segmentation")
    for name, value in {
        "polygon of 1e308": [[1e308, 1e308, -1e308, 1e308, 1e308, -1e308]],
        "polygon of infinity": [[float("inf"), 1, 2, 3, 4, 5]],
        "polygon of NaN": [[float("nan"), 1, 2, 3, 4, 5]],
        "polygon of text": [["1", "2", "3", "4", "5", "6"]],
        "polygon of huge integers": [[huge, 1, 2, 3, 4, 5]],
        "polygon of five numbers": [[1, 2, 3, 4, 5]],
        "polygon of lists": [[[1, 2], [3, 4], [5, 6]]],
        "polygon of true": [[True, 1, 2, 3, 4, 5]],
        "polygons nested 300 deep": deep,
        "RLE with negative counts": {"size": [48, 40], "counts": [-5, 1925]},
        "RLE of text counts": {"size": [48, 40], "counts": "\u00e9\u00e9"},
        "RLE of the wrong size": {"size": [40, 48], "counts": [1920]},
        "RLE of huge counts": {"size": [48, 40], "counts": [huge]},
        "RLE without counts": {"size": [48, 40]},
        "RLE of a huge size": {"size": [2**31, 2**31], "counts": [2**62]},
        "RLE that is too long": {"size": [48, 40], "counts": [1000, 2000]},
        "RLE of NaN": {"size": [48, 40], "counts": [float("nan")]},
        "RLE with a text size": {"size": "48x40", "counts": [1920]},
    }.items():
        yield _coco_case(name, _set(*polygon, value=value))
    for name, value in {
        "bbox of text": "abc",
        "bbox of null": None,
        "bbox of texts": ["1", "2", "3", "4"],
        "bbox of three numbers": [1, 2, 3],
        "bbox of huge integers": [huge, 1, 2, 3],
        "bbox of NaN": [float("nan"), 1, 2, 3],
        "bbox of 1e308": [1e308, 1e308, 1e308, 1e308],
        "bbox of a mapping": {"x": 1, "y": 2, "w": 3, "h": 4},
    }.items():

        def box(content: Any, value: Any = value) -> None:
            content["annotations"][0] |= {"segmentation": [], "bbox": value}

        yield _coco_case(name, box, boxes="fill")
    for name, value in {
        "a negative height": -48,
        "a height of 0": 0,
        "a height of 48.5": 48.5,
        "a height of 2**40": 2**40,
        "a height of another image": 40,
    }.items():
        names = ("case00",) if "another" in name else ("instances_default.json",)
        yield _coco_case(name, _set("images", 0, "height", value=value), names=names)
    for name, value in {
        "file_name above the folder": "../../../etc/passwd",
        "file_name of the system": "/etc/passwd",
        "file_name of a folder": "images",
        "file_name of 100,000 letters": "a" * 100_000,
        "file_name with NUL": "images/case00\0.png",
        "file_name of a device": "/dev/zero",
        "file_name with surrogates": "\ud800.png",
    }.items():
        yield _coco_case(name, _set("images", 0, "file_name", value=value))

    def texts(content: Any) -> None:
        for image in content["images"]:
            image["id"] = str(image["id"])
        for annotation in content["annotations"]:
            annotation["image_id"] = float(annotation["image_id"])

    yield _coco_case("ids of texts and of decimals", texts, right=has_drawn_masks)

    def twice(content: Any) -> None:
        content["images"].append(dict(content["images"][0]))

    yield _coco_case("an image twice", twice)

    def many(content: Any) -> None:
        content["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]] * 100_000

    yield _coco_case("100,000 polygons", many, right=has_area(8, 3))

    def points(content: Any) -> None:
        angle = np.linspace(0, 6.28, 400_000)
        ring = np.stack([20 + 9 * np.cos(angle), 20 + 9 * np.sin(angle)], 1)
        content["annotations"][0]["segmentation"] = [ring.ravel().tolist()]

    yield _coco_case("a polygon of 400,000 points", points, right=has_area(81 * np.pi, 8))


def _coco_case(
    name: str,
    change: Callable[[Any], Any],
    right: Any = None,
    names: tuple[str, ...] = ("instances_default.json",),
    **more: Any,
) -> Case:
    return _case(
        "COCO",
        name,
        layouts.coco_cvat,
        _json_change(COCO_FILE, change),
        names,
        right,
        layout="coco",
        **more,
    )


def _coco_files() -> Iterator[Case]:
    """Yield COCO files that are no JSON, or not the JSON that they seem to be."""

    def big_rle(text: str) -> str:
        content = json.loads(text)
        content["annotations"][0]["segmentation"] = {"size": [48, 40], "counts": "COUNTS"}
        return json.dumps(content).replace('"COUNTS"', "[" + "1," * 60_000_000 + "1]")

    def sparse(root: Path) -> None:
        os.truncate(root / COCO_FILE, 3 * 2**30)

    def replace(root: Path, make: Callable[[Path], Any]) -> None:
        (root / COCO_FILE).unlink()
        make(root / COCO_FILE)

    changes: dict[str, Change] = {
        "nested 200,000 deep": _text_change(COCO_FILE, lambda text: "[" * 200_000),
        "nested 900 deep within images": _text_change(
            COCO_FILE, lambda text: text.replace('"images": [', '"images": ' + "[" * 900, 1)
        ),
        "the literal Infinity": _text_change(
            COCO_FILE, lambda text: text.replace('"height": 48', '"height": Infinity', 1)
        ),
        "the literal -Infinity": _text_change(
            COCO_FILE, lambda text: text.replace('"width": 40', '"width": -Infinity', 1)
        ),
        "the number 1e999": _text_change(
            COCO_FILE, lambda text: text.replace('"height": 48', '"height": 1e999', 1)
        ),
        "an integer of 5,000 digits": _text_change(
            COCO_FILE, lambda text: text.replace('"height": 48', '"height": ' + "9" * 5000, 1)
        ),
        "cut in the middle": _text_change(COCO_FILE, lambda text: text[: len(text) // 2]),
        "empty": _text_change(COCO_FILE, lambda text: ""),
        "a list": _text_change(COCO_FILE, lambda text: "[1, 2]"),
        "a number": _text_change(COCO_FILE, lambda text: "7"),
        "null": _text_change(COCO_FILE, lambda text: "null"),
        "NUL bytes": _text_change(COCO_FILE, lambda text: text.replace(" ", "\0")),
        "Latin-1": _text_change(
            COCO_FILE, lambda text: text.replace("lesion", "läsion").encode("latin-1")
        ),
        "UTF-16": _text_change(COCO_FILE, lambda text: text.encode("utf-16")),
        "3 GB of zeros": sparse,
        "an RLE of 60 million runs": _text_change(COCO_FILE, big_rle),
        "a FIFO": lambda root: replace(root, os.mkfifo),
        "a link to /dev/zero": lambda root: replace(root, lambda p: p.symlink_to("/dev/zero")),
        "a folder": lambda root: replace(root, Path.mkdir),
        "a link to itself": lambda root: replace(root, lambda p: p.symlink_to(p.name)),
    }
    for name, change in changes.items():
        yield _case(
            "COCO",
            f"the file: {name}",
            layouts.coco_cvat,
            change,
            () if name == "a folder" else ("instances_default",),
            layout="coco",
        )

    def duplicate(text: str) -> str:
        return text.replace('"images": [', '"images": [], "images": [', 1)

    yield _case(
        "COCO",
        "the key images twice",
        layouts.coco_cvat,
        _text_change(COCO_FILE, duplicate),
        ("instances_default",),
        layout="coco",
    )

    def duplicate_inside(text: str) -> str:
        return text.replace('"height": 48', '"height": 24, "height": 48', 1)

    yield _case(
        "COCO",
        "the key height twice, with two values",
        layouts.coco_cvat,
        _text_change(COCO_FILE, duplicate_inside),
        ("instances_default",),
        layout="coco",
    )

    def image_folder(root: Path) -> None:
        (root / "images/case00.png").unlink()
        (root / "images/case00.png").mkdir()

    yield _case(
        "COCO", "a folder for an image", layouts.coco_cvat, image_folder, ("case00",), layout="coco"
    )


def _yolo() -> Iterator[Case]:
    file = "labels/train/case00.txt"
    lines: dict[str, str | bytes] = {
        "NaN": "0 nan 0.1 0.2 0.2 0.3 0.3",
        "infinity": "0 inf 0.1 0.2 0.2 0.3 0.3",
        "1e400": "0 1e400 0.1 0.2 0.2 0.3 0.3",
        "a class that is unknown": "99 0.1 0.1 0.2 0.2 0.3 0.1",
        "a negative class": "-1 0.1 0.1 0.2 0.2 0.3 0.1",
        "a decimal class": "0.5 0.1 0.1 0.2 0.2 0.3 0.1",
        "a class of 5,000 digits": "9" * 5000 + " 0.1 0.1 0.2 0.2 0.3 0.1",
        "words": "lesion at the left",
        "only a class": "0",
        "an odd number of coordinates": "0 0.1 0.1 0.2 0.2 0.3",
        "pixels": "0 10 10 20 20 30 10",
        "NUL bytes": b"0 0.1\x00 0.1 0.2 0.2",
        "bytes": bytes(range(256)),
        "UTF-16": "0 0.1 0.1 0.2 0.2 0.3 0.1".encode("utf-16"),
    }
    for name, line in lines.items():
        content = line if isinstance(line, bytes) else line.encode()

        def put(root: Path, content: bytes = content) -> None:
            (root / file).write_bytes(content)

        yield _case("YOLO", name, layouts.yolo, put, ("case00.txt",))
    names: dict[str, str | bytes] = {
        "data.yaml of no names": "path: .\n",
        "data.yaml with names of numbers": "names: {a: lesion, b: edema}\n",
        "data.yaml with a bomb of aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n"
            for n in range(9)
        )
        + "names: *j\n",
        "data.yaml with a tag of Python": "names: !!python/object/apply:os.system ['true']\n",
        "data.yaml of bytes": bytes(range(256)),
        "data.yaml nested deep": "names: " + "[" * 20_000,
    }
    for name, text in names.items():

        def put_names(root: Path, text: Any = text) -> None:
            (root / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

        yield _case("YOLO", name, layouts.yolo, put_names, ("data",))

    def fifo(root: Path) -> None:
        (root / file).unlink()
        os.mkfifo(root / file)

    yield _case("YOLO", "a FIFO", layouts.yolo, fifo, ("case00",))

    def sparse(root: Path) -> None:
        os.truncate(root / file, 3 * 2**30)

    yield _case("YOLO", "3 GB of zeros", layouts.yolo, sparse, ("case00.txt",))


def _voc_boxes(root: Path, items: list[Any], names: list[str]) -> None:
    """Write Pascal VOC with boxes."""
    (root / "Annotations").mkdir(parents=True)
    for item in items:
        layouts.save(root / "JPEGImages" / f"{item.name}.png", item.image)
        height, width = item.labels.shape
        (root / "Annotations" / f"{item.name}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height></size><object>"
            "<name>lesion</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax>"
            "</bndbox></object></annotation>"
        )


def _voc() -> Iterator[Case]:
    file = "Annotations/case00.xml"
    texts: dict[str, Callable[[str], str | bytes]] = {
        "a coordinate of text": lambda text: text.replace(">5<", ">five<"),
        "a coordinate of NaN": lambda text: text.replace(">5<", ">nan<"),
        "a coordinate of 1e400": lambda text: text.replace(">20<", ">1e400<"),
        "a coordinate of 1e308": lambda text: text.replace(">20<", ">1e308<"),
        "an inverted box": lambda text: text.replace(">5<", ">25<"),
        "no name": lambda text: text.replace("<name>lesion</name>", ""),
        "a size of text": lambda text: text.replace(">40<", ">wide<"),
        "a size of 1e300": lambda text: text.replace(">40<", ">1e300<"),
        "a size of 2**31": lambda text: text.replace(">40<", f">{2**31}<"),
        "a billion laughs": lambda text: '<!DOCTYPE a [<!ENTITY b "c">]>' + text,
        "an external entity": lambda text: (
            '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + text.replace("lesion", "&b;")
        ),
        "cut": lambda text: text[:100],
        "empty": lambda text: "",
        "no XML": lambda text: "{}",
        "another root": lambda text: "<html></html>",
        "nested 100,000 deep": lambda text: "<a>" * 100_000,
        "NUL bytes": lambda text: text.replace("lesion", "les\0ion"),
        "Latin-1 that says UTF-8": lambda text: text.replace("lesion", "läsion").encode("latin-1"),
        "an unknown encoding": lambda text: '<?xml version="1.0" encoding="klingon"?>' + text,
    }
    for name, change in texts.items():
        yield _case(
            "Pascal VOC", name, _voc_boxes, _text_change(file, change), ("case00",), boxes="fill"
        )

    def fifo(root: Path) -> None:
        (root / file).unlink()
        os.mkfifo(root / file)

    yield _case("Pascal VOC", "a FIFO", _voc_boxes, fifo, ("case00",), boxes="fill")
    colors: dict[str, str] = {
        "labelmap of text": "lesion:a,b,c::\n",
        "labelmap of 999": "lesion:999,0,0::\n",
        "labelmap of negative numbers": "lesion:-1,0,0::\n",
        "labelmap of bytes": "\udcff",
    }
    for name, text in colors.items():

        def put(root: Path, text: str = text) -> None:
            (root / "labelmap.txt").write_bytes(text.encode("utf-8", "surrogateescape"))

        yield _case("Pascal VOC", name, layouts.voc, put, ("labelmap.txt",))

    def image_sets(root: Path) -> None:
        (root / "ImageSets/Segmentation/train.txt").write_bytes(b"\xff\xfe\xfd")

    yield _case("Pascal VOC", "ImageSets of bytes", layouts.voc, image_sets, ("train.txt",))


def _cvat() -> Iterator[Case]:
    def set_attribute(name: str, value: str, tag: str = "image") -> Change:
        import re

        return _text_change(
            "annotations.xml",
            lambda text: re.sub(
                rf'(<{tag} [^>]*?){name}="[^"]*"', rf'\g<1>{name}="{value}"', text, count=1
            ),
        )

    changes: dict[str, Change] = {
        "a height of text": set_attribute("height", "tall"),
        "a height of NaN": set_attribute("height", "nan"),
        "a height of 1e400": set_attribute("height", "1e400"),
        "a height of 1e12": set_attribute("height", "1e12"),
        "a negative height": set_attribute("height", "-5"),
        "a height of 0": set_attribute("height", "0"),
        "an image above the folder": set_attribute("name", "../../etc/passwd"),
        "points of text": set_attribute("points", "a,b;c,d;e,f", "polygon"),
        "points of NaN": set_attribute("points", "nan,1;2,3;4,5", "polygon"),
        "points of three values": set_attribute("points", "1,2;3;4,5", "polygon"),
        "points of 1e308": set_attribute("points", "1e308,1;-1e308,3;4,1e308", "polygon"),
        "no points": set_attribute("points", "", "polygon"),
        "runs of text": set_attribute("rle", "a, b", "mask"),
        "negative runs": set_attribute("rle", "-5, 10", "mask"),
        "runs of 1e30": set_attribute("rle", "1" + "0" * 30, "mask"),
        "a mask of 2**31 columns": set_attribute("width", str(2**31), "mask"),
        "a mask at -5": set_attribute("left", "-5", "mask"),
        "an empty label": set_attribute("label", "", "polygon"),
        "cut": _text_change("annotations.xml", lambda text: text[:3000]),
        "an entity": _text_change(
            "annotations.xml",
            lambda text: "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>" + text,
        ),
    }
    for name, change in changes.items():
        yield _case("CVAT", name, layouts.cvat, change, ("annotations.xml",), layout="cvat")


def _labelme() -> Iterator[Case]:
    def picture(size: tuple[int, int], form: str) -> str:
        data = io.BytesIO()
        Image.new("L", size, 255).save(data, form)
        return base64.b64encode(data.getvalue()).decode()

    def bomb() -> str:
        """Return a PNG whose header announces 3.6 G pixels."""
        head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
        chunks = head, b"IDAT" + zlib.compress(bytes(999)), b"IEND"
        made = b"\x89PNG\r\n\x1a\n"
        for chunk in chunks:
            made += struct.pack(">I", len(chunk) - 4) + chunk
            made += struct.pack(">I", zlib.crc32(chunk))
        return base64.b64encode(made).decode()

    odd, even = "case01.json", "case02.json"  # of polygons, and of masks
    shape = ("shapes", 0)
    changes: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "a label of a list": (odd, _set(*shape, "label", value=[1])),
        "no label": (odd, _set(*shape, "label", value=None)),
        "points of text": (odd, _set(*shape, "points", value="abc")),
        "points of texts": (odd, _set(*shape, "points", value=[["a", "b"]] * 3)),
        "points of null": (odd, _set(*shape, "points", value=[[None, None]] * 3)),
        "points of NaN": (odd, _set(*shape, "points", value=[[float("nan"), 1]] * 3)),
        "points of huge integers": (odd, _set(*shape, "points", value=[[10**400, 1]] * 3)),
        "points of 1e308": (odd, _set(*shape, "points", value=[[1e308, 1], [2, -1e308], [3, 3]])),
        "a shape of text": (odd, _set(*shape, value="abc")),
        "a shape_type of a list": (odd, _set(*shape, "shape_type", value=[1])),
        "an unknown shape_type": (odd, _set(*shape, "shape_type", value="spiral")),
        "a circle of texts": (
            odd,
            _set(
                *shape,
                value={"label": "lesion", "shape_type": "circle", "points": [["a", 1], [2, 3]]},
            ),
        ),
        "a rectangle of nulls": (
            odd,
            _set(
                *shape,
                value={"label": "lesion", "shape_type": "rectangle", "points": [[None, 1], [2, 3]]},
            ),
        ),
        "a circle of huge integers": (
            odd,
            _set(
                *shape,
                value={"label": "lesion", "shape_type": "circle", "points": [[10**400, 1], [2, 3]]},
            ),
        ),
        "imagePath of a number": (odd, _set("imagePath", value=7)),
        "imagePath of a list": (odd, _set("imagePath", value=["a"])),
        "imagePath with NUL": (odd, _set("imagePath", value="a\0b")),
        "imageHeight of 2**40": (odd, _set("imageHeight", value=2**40)),
        "imageHeight of -1": (odd, _set("imageHeight", value=-1)),
        "imageHeight of true": (odd, _set("imageHeight", value=True)),
        "a mask of text": (even, _set(*shape, "mask", value="!!!")),
        "a mask of null": (even, _set(*shape, "mask", value=None)),
        "a mask of a GIF": (even, _set(*shape, "mask", value=picture((3, 3), "GIF"))),
        "a mask of an EPS": (even, _set(*shape, "mask", value=picture((3, 3), "EPS"))),
        "a mask of 3.6 G pixels": (even, _set(*shape, "mask", value=bomb())),
        "a mask at text": (even, _set(*shape, "points", value=[["a", "b"], ["c", "d"]])),
        "a mask at infinity": (
            even,
            _set(*shape, "points", value=[[float("inf"), 0], [5, 5]]),
        ),
        "shapes of null": (odd, _set("shapes", value=None)),
    }
    for name, (file, change) in changes.items():
        right = None
        if name.startswith("imagePath"):
            right = has_drawn_masks  # it is then the image beside the file
        if name == "shapes of null":
            right = lambda data: has_drawn_masks(data, 1)  # noqa: E731
        if name == "a mask of a GIF":
            right = has_drawn_masks  # a part of it is then lost, and it must be refused
        yield _case(
            "LabelMe",
            name,
            layouts.labelme,
            _json_change(file, change),
            (file[:6],),
            right,
            layout="labelme",
        )


def _label_studio() -> Iterator[Case]:
    first = (0, "annotations", 0, "result", 0)
    brush, polygon = 0, 1
    del first

    def result(task: int, *path: Any, value: Any) -> Callable[[Any], None]:
        return _set(task, "annotations", 0, "result", 0, *path, value=value)

    changes: dict[str, Callable[[Any], Any]] = {
        "data of text": _set(0, "data", value="abc"),
        "data of null": _set(0, "data", value=None),
        "an image of a number": _set(0, "data", "image", value=7),
        "annotations of text": _set(0, "annotations", value="abc"),
        "annotations of a number": _set(0, "annotations", value=7),
        "result of text": _set(0, "annotations", 0, "result", value="abc"),
        "result of texts": _set(0, "annotations", 0, "result", value=["abc"]),
        "a type of a list": result(brush, "type", value=[1]),
        "a value of null": result(brush, "value", value=None),
        "a value of text": result(polygon, "value", value="abc"),
        "rle of text": result(brush, "value", "rle", value="abc"),
        "rle of huge integers": result(brush, "value", "rle", value=[10**400]),
        "rle of negative numbers": result(brush, "value", "rle", value=[-1, -2, -3]),
        "rle of 999": result(brush, "value", "rle", value=[999] * 20),
        "an empty rle": result(brush, "value", "rle", value=[]),
        "rle cut off": result(brush, "value", "rle", value=[0, 0, 30, 0]),
        "points of text": result(polygon, "value", "points", value="abc"),
        "points of triples": result(polygon, "value", "points", value=[[1, 2, 3]] * 3),
        "points of null": result(polygon, "value", "points", value=[[None, 1]] * 3),
        "points of NaN": result(polygon, "value", "points", value=[[float("nan"), 1]] * 3),
        "points of 1e308": result(
            polygon, "value", "points", value=[[1e308, 1], [1, 1e308], [2, 2]]
        ),
        "points of huge integers": result(polygon, "value", "points", value=[[10**400, 1]] * 3),
        "labels of a number": result(polygon, "value", "polygonlabels", value=7),
        "labels of text": result(polygon, "value", "polygonlabels", value="lesion"),
        "original_height of text": result(brush, "original_height", value="48"),
        "original_height of 2**40": result(brush, "original_height", value=2**40),
        "image_rotation of text": result(brush, "image_rotation", value="abc"),
    }
    for name, change in changes.items():
        yield _case(
            "Label Studio",
            name,
            layouts.label_studio,
            _json_change("export.json", change),
            ("export.json",),
            layout="label_studio",
        )


def _nnunet() -> Iterator[Case]:
    values: dict[str, Any] = {
        "labels of null": {"labels": None},
        "labels of a list": {"labels": ["background", "lesion"]},
        "labels of text": {"labels": {"lesion": "one"}},
        "labels of 1e400": {"labels": {"lesion": float("inf")}},
        "labels of huge integers": {"labels": {"background": 0, "lesion": 10**400}},
        "labels of true": {"labels": {"background": False, "lesion": True}},
        "labels of negative numbers": {"labels": {"background": 0, "lesion": -1}},
        "labels of mappings": {"labels": {"lesion": {"a": 1}}},
        "labels of nested lists": {"labels": {"background": 0, "lesion": [[1]]}},
        "two labels of one value": {"labels": {"background": 0, "lesion": 1, "edema": 1}},
        "no labels": {},
    }
    for name, content in values.items():

        def put(root: Path, content: Any = content) -> None:
            (root / "dataset.json").write_text(json.dumps({"file_ending": ".png", **content}))

        names = () if name.startswith("two") else ("dataset.json",)
        yield _case("nnU-Net", name, layouts.nnunet, put, names, layout="nnunet")
    texts: dict[str, bytes] = {
        "dataset.json of bytes": bytes(range(256)),
        "dataset.json nested deep": b"[" * 200_000,
        "dataset.json of a list": b"[1]",
        "an empty dataset.json": b"",
    }
    for name, text in texts.items():

        def put_text(root: Path, text: bytes = text) -> None:
            (root / "dataset.json").write_bytes(text)

        yield _case("nnU-Net", name, layouts.nnunet, put_text, ("dataset.json",), layout="nnunet")

    def fifo(root: Path) -> None:
        (root / "dataset.json").unlink()
        os.mkfifo(root / "dataset.json")

    yield _case("nnU-Net", "a FIFO", layouts.nnunet, fifo, ("data",), layout="nnunet")


def _class_folders() -> Iterator[Case]:
    def write(root: Path, items: list[Any], names: list[str]) -> None:
        for n, item in enumerate(items):
            layouts.save(root / ("normal", "pneumonia")[n % 2] / f"{item.name}.png", item.image)

    def link(root: Path) -> None:
        (root / "normal/loop").symlink_to(root)

    def fifo(root: Path) -> None:
        os.mkfifo(root / "normal/x.png")

    def socket(root: Path) -> None:
        import socket as sockets

        here = Path.cwd()
        os.chdir(root)
        sockets.socket(sockets.AF_UNIX).bind("normal/x.png")
        os.chdir(here)

    def device(root: Path) -> None:
        (root / "normal/x.png").symlink_to("/dev/zero")

    def folder(root: Path) -> None:
        (root / "normal/x.png").mkdir()

    def dangling(root: Path) -> None:
        (root / "normal/x.png").symlink_to("/nonexistent/x.png")

    def surrogates(root: Path) -> None:
        (root / "normal/case00.png").rename(root / os.fsdecode(b"normal/\xff\xfe.png"))

    def spelled(root: Path) -> None:
        layouts.save(root / "train/Normal/a.png", small_items()[0].image)
        layouts.save(root / "train/normal/b.png", small_items()[1].image)

    def whole(data: Any) -> bool:
        labels = [bool(row) for row in data.table.rows["label"]]
        return len(data.table) == 24 and sum(labels) == 12

    changes: dict[str, tuple[Change, Any]] = {
        "a link to the root": (link, whole),
        "a FIFO": (fifo, whole),
        "a socket": (socket, whole),
        "a link to /dev/zero": (device, whole),
        "a folder called x.png": (folder, whole),
        "a link to nothing": (dangling, whole),
        "a name that is no UTF-8": (surrogates, whole),
        "one class in two spellings": (spelled, None),
    }
    for name, (change, right) in changes.items():
        yield _case("class folders", name, write, change, (), right, task="labels")
