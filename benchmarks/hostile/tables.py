"""Hostile tables: CSV, XLSX, manifests, meta JSON, SIIM's CSV, ChestX-Det and bone scan labels."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile.annotations import own_data, prepared
from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import Template, small_items
from datamodules.bone_scan import read_bone_labels
from datamodules.chestx_det import ChestXDetDataModule, read_chestx_det
from datamodules.pneumothorax import read_siim_csv
from datamodules.table import TableDataModule
from tests.factories.layouts import save

READ = {  # what must be read, and not only be refused in a sentence
    *("UTF-16", "a byte-order mark", "semicolons", "blanks around", "old line ends"),
    *("Latin-1 labels", "labels of emoji", "formulas", "labels 1 and 1.0"),
}
KINDS = ("tables", "manifests", "meta JSON", "SIIM CSV", "ChestX-Det", "bone labels")


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of tables."""
    yield from _label_tables()
    yield from _mask_tables()
    yield from _workbooks()
    yield from _manifests()
    yield from _meta_json()
    yield from _siim()
    yield from _chestx_det()
    yield from _bone_labels()


def _films(root: Path) -> list[str]:
    """Write 24 images; return their names."""
    names = []
    for item in small_items():
        save(root / "films" / f"{item.name}.png", item.image)
        names.append(f"films/{item.name}.png")
    return names


def _label_lines(names: list[str]) -> list[str]:
    return ["image,label", *(f"{name},{('sick', 'well')[n % 2]}" for n, name in enumerate(names))]


def _table_case(
    kind: str,
    name: str,
    change: Callable[[list[str]], list[str] | bytes],
    names: tuple[str, ...] = ("list.csv",),
    right: Callable[[Any], bool] | None = None,
    task: str = "labels",
    may_refuse: bool = True,
    **more: Any,
) -> Case:
    def prepare(folder: Path) -> Action:
        root = folder / "data"
        lines = change(_label_lines(_films(root)))
        data = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
        (root / "list.csv").write_bytes(data)
        return lambda: prepared(own_data(folder, task=task, **more))

    return Case(kind, name, prepare, names, right, may_refuse)


def _labels(data: Any) -> list[str]:
    """Return the label of each image, by name."""
    rows = data.table.rows.sort_values("id")
    found = []
    for label in rows["label"]:
        if isinstance(label, list):
            found.append("|".join(n for n, on in zip(data.table.classes, label, strict=True) if on))
        else:
            found.append(str(data.table.classes[label]) if len(data.table.classes) > 1 else label)
    return found


def _whole(data: Any) -> bool:
    """Return True if all 24 images have the labels that were written, in turn."""
    labels = _labels(data)
    return len(labels) == 24 and len(set(labels[::2])) == len(set(labels[1::2])) == 1


def _put(place: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:place], text, *lines[place + 1 :]]


def _label_tables() -> Iterator[Case]:
    def numbers(*values: str) -> Callable[[list[str]], list[str]]:
        def change(lines: list[str]) -> list[str]:
            made = [lines[0]]
            for n, line in enumerate(lines[1:]):
                made.append(f"{line.partition(',')[0]},{(values * 24)[n]}")
            return made

        return change

    kind = "tables"
    yield _table_case(
        kind,
        "a blank label beside texts",
        lambda lines: [*lines[:3], lines[3].partition(",")[0] + ",", *lines[4:]],
        right=lambda data: len(data.table) == 23,
    )
    yield _table_case(
        kind,
        "an image above the folder",
        _put(3, "../../etc/passwd,sick"),
        right=lambda data: len(data.table) == 23,
    )
    for name, change in {
        "no column label": lambda lines: [line.partition(",")[0] for line in lines],
        "an empty name of a column": lambda lines: ["image,", *lines[1:]],
        "two columns label": lambda lines: ["image,label,label", *(f"{x},a" for x in lines[1:])],
        "labels of NaN": numbers("nan"),
        "one infinite label": numbers("0", "1", "0", "1", "0", "inf"),
        "labels of 1e400": numbers("1e400", "0"),
        "labels of inf and -inf": numbers("inf", "-inf"),
        "shares of readers": numbers("0", "0.5", "1"),
        "a class for each image": numbers(*(f"c{n}" for n in range(24))),
        "an image twice": lambda lines: [*lines, lines[1]],
        "rows of other lengths": _put(3, "films/case02.png,sick,and,more"),
        "an open quote": _put(3, '"films/case02.png,sick'),
        "only a header": lambda lines: lines[:1],
        "empty": lambda lines: b"",
        "one byte": lambda lines: b"\xff",
        "NUL bytes": lambda lines: "\n".join(lines).replace("sick", "si\0ck").encode(),
        "half UTF-16": lambda lines: b"\xff\xfe" + "\n".join(lines).encode("utf-16-le")[:-1],
        "random bytes": lambda lines: np.random.default_rng(0).bytes(5000),
        "one class": numbers("sick"),
        "a placeholder for patients": lambda lines: [
            "image,label,patient",
            *(f"{line},NA" for line in lines[1:]),
        ],
        "Latin-1 beside UTF-8": lambda lines: (
            "\n".join(lines[:13]).replace("sick", "kränk").encode()
            + "\n".join(["", *lines[13:]]).replace("sick", "kränk").encode("latin-1")
        ),
        "Chinese in GBK": lambda lines: "\n".join(lines).replace("sick", "乮乯").encode("gbk"),
        "a split that is unknown": lambda lines: [
            "image,label,split",
            *(f"{line},exam" for line in lines[1:]),
        ],
    }.items():
        yield _table_case(kind, name, change, ())
    for name, change in {
        "UTF-16": lambda lines: "\n".join(lines).encode("utf-16"),
        "a byte-order mark": lambda lines: b"\xef\xbb\xbf" + "\n".join(lines).encode(),
        "semicolons": lambda lines: [line.replace(",", ";") for line in lines],
        "blanks around": lambda lines: [line.replace(",", " , ") for line in lines],
        "old line ends": lambda lines: "\r".join(lines).encode(),
        "Latin-1 labels": lambda lines: "\n".join(lines).replace("sick", "kränk").encode("latin-1"),
        "labels of emoji": lambda lines: [line.replace("sick", "🤒") for line in lines],
        "formulas": lambda lines: [line.replace("sick", "=cmd|' /C calc'!A0") for line in lines],
        "labels 1 and 1.0": numbers("1", "0", "1.0", "0.0"),
    }.items():
        yield _table_case(kind, name, change, (), _whole, may_refuse=name not in READ)

    def sparse(folder: Path) -> Action:
        root = folder / "data"
        _films(root)
        (root / "list.csv").write_text("image,label\n")
        os.truncate(root / "list.csv", 1_500_000_000)
        return lambda: prepared(own_data(folder, task="labels"))

    yield Case(kind, "one line of 1.5 GB", sparse, ("list.csv",))

    def long_line(lines: list[str]) -> list[str]:
        return [*lines, "films/case00.png," + "x" * 50_000_000]

    yield _table_case(kind, "a label of 50 MB", long_line, ())

    def fifo(folder: Path) -> Action:
        root = folder / "data"
        _films(root)
        os.mkfifo(root / "list.csv")
        return lambda: prepared(own_data(folder, task="labels"))

    yield Case(kind, "a FIFO", fifo, ("list.csv",))

    def device(folder: Path) -> Action:
        root = folder / "data"
        _films(root)
        (root / "list.csv").symlink_to("/dev/zero")
        return lambda: prepared(own_data(folder, task="labels"))

    yield Case(kind, "a link to /dev/zero", device, ("list.csv",))


def _mask_tables() -> Iterator[Case]:
    values = {
        "a path above the folder": "../../../etc/passwd",
        "a huge run": "1 " + "9" * 30,
        "a run of 5,000 digits": "1 " + "9" * 5000,
        "an odd number of values": "1 2 3",
        "a start of 0": "0 5",
        "a run beyond the image": "1 999999",
        "an RLE of text": '"{""size"": [48, 40], ""counts"": ""é""}"',
        "an RLE of a huge size": '"{""size"": [99999999, 99999999], ""counts"": ""0""}"',
        "an RLE cut off": '"{""size"": [48,"',
        "an RLE nested deep": '"{""size"": ' + "[" * 5000 + '"',
        "an RLE with the key size twice": (
            '"{""size"": [48, 40], ""size"": [48, 41], ""counts"": ""o1""}"'
        ),
        "a mask that is a folder": "films",
    }
    for name, value in values.items():

        def change(lines: list[str], value: str = value) -> list[str]:
            rest = [f"{line.partition(',')[0]},1 5" for line in lines[2:]]
            return ["image,mask", f"films/case00.png,{value}", *rest]

        yield _table_case("tables", f"mask: {name}", change, (), None, "masks", rle_size="image")


def _workbooks() -> Iterator[Case]:
    def bomb(path: Path) -> None:
        sheet = io.BytesIO()
        with zipfile.ZipFile(sheet, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("[Content_Types].xml", "<Types/>")
            with file.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as part:
                for _ in range(128):
                    part.write(bytes(2**24))
        path.write_bytes(sheet.getvalue())

    def no_sheet(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.txt", "b")

    def text(path: Path) -> None:
        path.write_text("image,label\n")

    def html(path: Path) -> None:
        path.write_text("<html><table><tr><td>image</td></tr></table></html>")

    for make in (bomb, no_sheet, text, html):

        def prepare(folder: Path, make: Callable[[Path], None] = make) -> Action:
            root = folder / "data"
            _films(root)
            make(root / "list.xlsx")
            return lambda: prepared(own_data(folder, task="labels", table="list.xlsx"))

        yield Case("tables", f"XLSX: {make.__name__}", prepare, ("list.xlsx",))


def _table_module(folder: Path, name: str, **more: Any) -> TableDataModule:
    return TableDataModule(
        root=str(folder / "data"),
        manifest_name=name,
        cache_dir=str(folder / "cache"),
        image_size=32,
        num_workers=0,
        **more,
    )


def _rows(root: Path) -> list[dict[str, Any]]:
    """Write images and return rows of a manifest with labels."""
    splits = ("train", "train", "val", "test")
    return [
        {"id": f"i{n}", "image": name, "label": n // 4 % 2, "split": splits[n % 4]}
        for n, name in enumerate(_films(root))
    ]


def _manifests() -> Iterator[Case]:
    places: dict[str, Any] = {
        "id is null": ("id", None),
        "id is a list": ("id", [1]),
        "image is null": ("image", None),
        "image is a number": ("image", 7),
        "image is a mapping": ("image", {"a": 1}),
        "image with NUL": ("image", "a\0b"),
        "image is a device": ("image", "/dev/zero"),
        "image is a folder": ("image", "films"),
        "image of 100,000 letters": ("image", "a" * 100_000),
        "label is null": ("label", None),
        "label is text": ("label", "flu"),
        "label is infinite": ("label", float("inf")),
        "label is NaN": ("label", float("nan")),
        "label is 1e300": ("label", 1e300),
        "label is a huge integer": ("label", 10**400),
        "label is a list": ("label", [1, 0]),
        "label is a mapping": ("label", {"a": 1}),
        "label is nested": ("label", [[[1]]]),
        "split is unknown": ("split", "exam"),
        "split is a number": ("split", 7),
        "split is a list": ("split", ["train"]),
        "group is a mapping": ("group", {"a": 1}),
        "mask is a number": ("mask", 7),
        "mask is a list of numbers": ("mask", [1, 2]),
        "mask is a device": ("mask", "/dev/zero"),
        "mask is a mapping": ("mask", {"size": [1, 1]}),
        "spacing_mm is text": ("spacing_mm", "wide"),
        "spacing_mm is infinite": ("spacing_mm", float("inf")),
        "crop is text": ("crop", "abc"),
        "slice is text": ("slice", "abc"),
        "slice is -1": ("slice", -1),
        "slice is infinite": ("slice", float("inf")),
        "height is text": ("height", "abc"),
        "channel_files is text": ("channel_files", "abc"),
        "channel_files of numbers": ("channel_files", [1, 2]),
        "cls_prob is text": ("cls_prob", "abc"),
        "stratum is a list": ("stratum", [1]),
    }
    used = ("group", "spacing_mm", "crop", "cls_prob", "stratum", "height")  # may be unused
    for name, (key, value) in places.items():

        def prepare(folder: Path, key: str = key, value: Any = value) -> Action:
            rows = _rows(folder / "data")
            rows[2][key] = value
            content = {"version": 1, "classes": ["sick"], "rows": rows}
            (folder / "data/rows.json").write_text(json.dumps(content))
            return lambda: prepared(_table_module(folder, "rows.json"))

        right = (lambda data: len(data.table) == 24) if key in used else None
        yield Case("manifests", name, prepare, (), right)
    heads: dict[str, Any] = {
        "version is text": {"version": "new"},
        "version is 99": {"version": 99},
        "version is null": {"version": None},
        "classes is text": {"classes": "sick"},
        "classes is a number": {"classes": 7},
        "classes is empty": {"classes": []},
        "classes twice": {"classes": ["a", "a"]},
        "classes of numbers": {"classes": [1]},
        "group_is is a list": {"group_is": [1]},
        "phantom is text": {"phantom": "no"},
        "mask_values is text": {"mask_values": "abc"},
        "exclusive is text": {"exclusive": "no"},
        "rows is text": {"rows": "abc"},
        "rows is a mapping": {"rows": {"a": 1}},
        "rows is empty": {"rows": []},
        "rows of texts": {"rows": ["a", "b"]},
    }
    for name, head in heads.items():

        def prepare_head(folder: Path, head: Any = head) -> Action:
            rows = _rows(folder / "data")
            content = {"version": 1, "classes": ["sick"], "rows": rows} | head
            (folder / "data/rows.json").write_text(json.dumps(content))
            return lambda: prepared(_table_module(folder, "rows.json"))

        yield Case("manifests", f"head: {name}", prepare_head, ("rows.json",))
    texts: dict[str, bytes] = {
        "a list": b"[1]",
        "null": b"null",
        "nested 200,000 deep": b"[" * 200_000,
        "empty": b"",
        "random bytes": np.random.default_rng(1).bytes(2000),
        "an integer of 5,000 digits": b'{"version": ' + b"9" * 5000 + b"}",
    }
    for suffix in ("json", "csv"):
        for name, text in texts.items():

            def prepare_text(folder: Path, text: bytes = text, suffix: str = suffix) -> Action:
                _rows(folder / "data")
                (folder / f"data/rows.{suffix}").write_bytes(text)
                return lambda: prepared(_table_module(folder, f"rows.{suffix}"))

            yield Case("manifests", f"{suffix}: {name}", prepare_text, (f"rows.{suffix}",))

        def prepare_fifo(folder: Path, suffix: str = suffix) -> Action:
            _rows(folder / "data")
            os.mkfifo(folder / f"data/rows.{suffix}")
            return lambda: prepared(_table_module(folder, f"rows.{suffix}"))

        yield Case("manifests", f"{suffix}: a FIFO", prepare_fifo, (f"rows.{suffix}",))

        def prepare_sparse(folder: Path, suffix: str = suffix) -> Action:
            _rows(folder / "data")
            (folder / f"data/rows.{suffix}").write_text("id,image,label,split\n")
            os.truncate(folder / f"data/rows.{suffix}", 1_500_000_000)
            return lambda: prepared(_table_module(folder, f"rows.{suffix}"))

        yield Case(
            "manifests", f"{suffix}: one line of 1.5 GB", prepare_sparse, (f"rows.{suffix}",)
        )
    heads_of_csv = {
        "a head that is no JSON": "# {\n",
        "a head that is a list": "# [1]\n",
        "a head nested deep": "# " + "[" * 100_000 + "\n",
    }
    for name, head in heads_of_csv.items():

        def prepare_csv(folder: Path, head: str = head) -> Action:
            rows = _rows(folder / "data")
            lines = [",".join(map(str, row.values())) for row in rows]
            text = "\n".join(["id,image,label,split", *lines])
            (folder / "data/rows.csv").write_text(head + text)
            return lambda: prepared(_table_module(folder, "rows.csv"))

        yield Case("manifests", f"csv: {name}", prepare_csv, ("rows.csv",))


def _meta_json() -> Iterator[Case]:
    places: dict[str, Any] = {
        "image_path is a number": {"image_path": 7},
        "image_path is null": {"image_path": None},
        "image_path with NUL": {"image_path": "a\0b"},
        "has_pnx is text": {"has_pnx": "yes"},
        "has_pnx is 2": {"has_pnx": 2},
        "has_pnx is NaN": {"has_pnx": float("nan")},
        "has_pnx is a list": {"has_pnx": [1]},
        "mask_path is a number": {"mask_path": 7, "has_pnx": 1},
        "strata is a list": {"strata": [1]},
        "strata is unknown": {"strata": "9_q9"},
        "cls_prob is text": {"cls_prob": "high"},
        "cls_prob is 2": {"cls_prob": 2},
        "cls_prob is a huge integer": {"cls_prob": 10**400},
        "crop is text": {"crop": "abc"},
        "crop of floats": {"crop": [0.5, 1, 2]},
        "id is a mapping": {"id": {"a": 1}},
        "split is a list": {"split": ["train"]},
        "group is a mapping": {"group": {"a": 1}},
    }
    for name, change in places.items():

        def prepare(folder: Path, change: Any = change) -> Action:
            rows = _rows(folder / "data")
            entries = [
                {"image_path": row["image"], "has_pnx": 0, "split": row["split"]} for row in rows
            ]
            for item, entry in zip(small_items(), entries, strict=True):
                if (item.labels > 0).any() and item.name != "case02":
                    path = f"masks/{item.name}.png"
                    save(folder / "data" / path, (item.labels > 0) * np.uint8(255))
                    entry |= {"mask_path": path, "has_pnx": 1}
            entries[2] |= change
            (folder / "data/meta.json").write_text(json.dumps(entries))
            return lambda: prepared(_table_module(folder, "meta.json"))

        yield Case("meta JSON", name, prepare, ("meta.json",))

    def text_entry(folder: Path) -> Action:
        rows = _rows(folder / "data")
        entries = [{"image_path": rows[0]["image"], "has_pnx": 0}, "abc", None]
        (folder / "data/meta.json").write_text(json.dumps(entries))
        return lambda: prepared(_table_module(folder, "meta.json"))

    yield Case("meta JSON", "entries of text and null", text_entry, ("meta.json",))


def _file_case(kind: str, name: str, data: Any, read: Callable[[Path], Any], file: str) -> Case:
    def prepare(folder: Path) -> Action:
        path = folder / "data" / file
        path.parent.mkdir()
        path.write_bytes(data() if callable(data) else data)
        return lambda: read(path)

    return Case(kind, name, prepare, (file,))


def _odd_files(kind: str, read: Callable[[Path], Any], file: str) -> Iterator[Case]:
    """Yield what is no file of a reader: a pipe, a device, a folder, a file of gigabytes."""

    def fifo(path: Path) -> None:
        os.mkfifo(path)

    def device(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def folder_of_its_name(path: Path) -> None:
        path.mkdir()

    def sparse(path: Path) -> None:
        path.write_text("ImageId,EncodedPixels\n")
        os.truncate(path, 1_500_000_000)

    def loop(path: Path) -> None:
        path.symlink_to(path.name)

    for make in (fifo, device, folder_of_its_name, sparse, loop):

        def prepare(folder: Path, make: Callable[[Path], None] = make) -> Action:
            path = folder / "data" / file
            path.parent.mkdir()
            make(path)
            return lambda: read(path)

        yield Case(kind, make.__name__.replace("_", " "), prepare, (file,))


def _siim() -> Iterator[Case]:
    texts: dict[str, Any] = {
        "empty": b"",
        "no column": b"a,b\n1,2\n",
        "an image with and without mask": b"ImageId,EncodedPixels\na,-1\na,1 2\n",
        "rows of one value": b"ImageId,EncodedPixels\na\n",
        "NUL bytes": b"ImageId,EncodedPixels\na\0,1 2\n",
        "random bytes": np.random.default_rng(2).bytes(3000),
        "UTF-16": "ImageId,EncodedPixels\na,1 2\n".encode("utf-16"),
        "a cell of 200 MB": lambda: b"ImageId,EncodedPixels\na," + b"1 " * 100_000_000,
        "an open quote": b'ImageId,EncodedPixels\n"a,1 2\n',
    }
    for name, data in texts.items():
        yield _file_case("SIIM CSV", name, data, read_siim_csv, "train.csv")
    yield from _odd_files("SIIM CSV", read_siim_csv, "train.csv")
    yield _file_case("SIIM CSV", "a .gz that is none", b"ImageId", read_siim_csv, "train.csv.gz")
    import gzip

    def bomb() -> bytes:
        head = gzip.compress(b"ImageId,EncodedPixels\na," + b"1 " * 2**20)
        return head + gzip.compress(bytes(2**26)) * 40

    yield _file_case("SIIM CSV", "a .gz bomb", bomb, read_siim_csv, "train.csv.gz")


def _chestx_det() -> Iterator[Case]:
    entry = {
        "file_name": "1.png",
        "syms": ["Effusion"],
        "boxes": [[1, 2, 3, 4]],
        "polygons": [[[1, 2], [3, 4], [5, 6]]],
    }
    contents: dict[str, Any] = {
        "an entry of text": ["abc"],
        "file_name of a number": [entry | {"file_name": 7}],
        "file_name above the folder": [entry | {"file_name": "../1.png"}],
        "file_name with NUL": [entry | {"file_name": "a\0.png"}],
        "syms of text": [entry | {"syms": "Effusion"}],
        "a finding of a list": [entry | {"syms": [["Effusion"]]}],
        "a finding of a mapping": [entry | {"syms": [{"a": 1}]}],
        "an unknown finding": [entry | {"syms": ["Gout"]}],
        "polygons of text": [entry | {"polygons": ["abc"]}],
        "points of texts": [entry | {"polygons": [[["1", "2"]] * 3]}],
        "points of huge integers": [entry | {"polygons": [[[10**400, 2]] * 3]}],
        "points of NaN": [entry | {"polygons": [[[float("nan"), 2]] * 3]}],
        "points of true": [entry | {"polygons": [[[True, 2]] * 3]}],
        "lists of other lengths": [entry | {"boxes": []}],
        "an image twice": [entry, entry],
        "a mapping": {"a": 1},
        "an empty list": [],
    }
    for name, content in contents.items():
        data = json.dumps(content).encode()
        yield _file_case("ChestX-Det", name, data, read_chestx_det, "train.json")
    for name, data in {
        "nested deep": b"[" * 200_000,
        "empty": b"",
        "an integer of 5,000 digits": b"[" + b"9" * 5000 + b"]",
        "the key syms twice": b'[{"file_name": "1.png", "syms": [], "syms": ["Effusion"]}]',
    }.items():
        yield _file_case("ChestX-Det", name, data, read_chestx_det, "train.json")
    yield from _odd_files("ChestX-Det", read_chestx_det, "train.json")

    def huge(folder: Path) -> Action:
        root = folder / "data"
        save(root / "train_data/train/1.png", np.zeros((40, 40), np.uint8))
        save(root / "test_data/test/2.png", np.zeros((40, 40), np.uint8))
        far = entry | {"polygons": [[[1e308, 1], [-1e308, 5], [3, 1e308]]]}
        (root / "ChestX_Det_train.json").write_text(json.dumps([far]))
        (root / "ChestX_Det_test.json").write_text(json.dumps([entry | {"file_name": "2.png"}]))
        made = ChestXDetDataModule(
            root=str(root),
            cache_dir=str(folder / "cache"),
            image_size=32,
            num_workers=0,
            classes=["Effusion"],
        )
        return lambda: prepared(made)

    yield Case("ChestX-Det", "points of 1e308", huge, ("train/1.png",))


def _bone_labels() -> Iterator[Case]:
    texts: dict[str, bytes] = {
        "empty": b"",
        "no tab": b"1.jpg 0\n",
        "a label of 2": b"1.jpg\t2\n",
        "an infinite label": b"1.jpg\tinf\n",
        "contradictions": b"1.jpg\t0\n1.jpg\t1\n",
        "random bytes": np.random.default_rng(3).bytes(3000),
        "UTF-32": "1.jpg\t0\n".encode("utf-32"),
        "NUL bytes": b"1.jpg\t0\0\n",
    }
    for name, data in texts.items():
        yield _file_case("bone labels", name, data, read_bone_labels, "label.txt")
    yield from _odd_files("bone labels", read_bone_labels, "label.txt")
