"""Tests of bad ChestX-Det input, and the counts of a good run.

A refusal exits with a code and one sentence with a fix; no step is taken, the data are untouched.
"""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from datamodules.phantoms import chestx_det
from datamodules.phantoms.chest_findings import FINDING_KINDS
from tests.conftest import DEMO, folder_hash
from tests.unit.datamodules.test_chestx_det import DRAWN, WARTS

JSON = "ChestX_Det_train.json"
NET = (
    "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,"
    "decoder_channels:[16,8,8],classes:6}"
)
WORDS = [
    "experiment=upernet_chestx_det",
    "module/net=unet",
    NET,
    f"module.classes=[{','.join(FINDING_KINDS)}]",
    "image_size=64",
    "evaluation_size=64",
    "datamodule.batch_size=10",
    "datamodule.seed=0",
    "trainer.max_epochs=1",
    *DEMO,
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chestx_det"
    chestx_det.write(folder, **DRAWN)
    return folder


def changed(change):
    """Return a function that applies `change` in place to the first train entry with findings."""

    def spoil(root: Path) -> None:
        entries = json.loads((root / JSON).read_text())
        entry = next(entry for entry in entries if entry["syms"])
        change(entry)
        (root / JSON).write_text(json.dumps(entries))

    return spoil


def first_polygon(polygon):
    return changed(lambda entry: entry["polygons"].__setitem__(0, polygon))


def twice(root: Path) -> None:
    entries = json.loads((root / JSON).read_text())
    (root / JSON).write_text(json.dumps([*entries, entries[3]]))


def broken(root: Path) -> None:
    (root / JSON).write_text((root / JSON).read_text()[:-20])


def complete(root: Path) -> None:
    """No annotation is without its image."""
    entries = json.loads((root / JSON).read_text())
    (root / JSON).write_text(
        json.dumps(
            [entry for entry in entries if (root / "train_data" / entry["file_name"]).is_file()]
        )
    )


def halved(root: Path) -> None:
    """Someone made the images smaller, and not the annotations."""
    for path in (root / "train_data").glob("*.png"):
        Image.open(path).resize((32, 32)).save(path)


def no_picture(root: Path) -> None:
    entry = next(entry for entry in json.loads((root / JSON).read_text()) if entry["syms"])
    (root / "train_data" / entry["file_name"]).write_bytes(b"no picture")


def nowhere(root: Path) -> None:
    (root / "train_data").rename(root / "elsewhere")


REFUSE = ["datamodule.unmatched=refuse"]
BAD = {
    "two points": (
        first_polygon([[1, 1], [9, 9]]),
        [],
        "whose polygon has fewer than 3 points",
        "outline it again (a box is never used in its place)",
    ),
    "no polygon": (
        first_polygon([]),
        [],
        "whose polygon has fewer than 3 points",
        "outline it again",
    ),
    "one number": (
        first_polygon([[1, 1], [9, 9], [4]]),
        [],
        "a point that is not two finite numbers x and y",
        "correct it",
    ),
    "not finite": (
        first_polygon([[1, 1], [9, 9], [4, math.nan]]),
        [],
        "a point that is not two finite numbers x and y",
        "correct it",
    ),
    "unknown class": (
        changed(lambda e: e["syms"].__setitem__(0, "Efusion")),
        [],
        "a finding 'Efusion', which is none of the 13",
        "write 'Effusion'",
    ),
    "a class fewer": (
        changed(lambda e: e["syms"].pop()),
        [],
        " syms, ",
        "each finding needs one of each; correct the entry",
    ),
    "no boxes": (changed(lambda e: e.pop("boxes")), [], "has no list 'boxes'", "restore the file"),
    "no name": (changed(lambda e: e.pop("file_name")), [], "has no file_name", "restore the file"),
    "another folder": (
        changed(lambda e: e.update(file_name="../x.png")),
        [],
        "'../x.png' leaves the folder of the images",
        "correct the name",
    ),
    "an image twice": (
        twice,
        [],
        f"{{root}}/{JSON} lists '",
        "twice; join its findings in one entry",
    ),
    "broken JSON": (broken, [], f"{{root}}/{JSON} is not valid JSON", "restore the file"),
    "a COCO file": (
        lambda r: (r / JSON).write_text('{"images": []}'),
        [],
        f"{{root}}/{JSON} is not a list of images",
        "name ChestX-Det's own",
    ),
    "no JSON": (
        lambda r: (r / JSON).unlink(),
        [],
        f"{{root}}/{JSON} does not exist",
        "datamodule.root",
    ),
    "no images": (
        nowhere,
        [],
        "{root} has none of the images that ChestX_Det_train.json names, such as '",
        "unpack train_data.zip there",
    ),
    "smaller images": (
        halved,
        [],
        " pixels beyond the 32 x 32 image",
        "use the images at the size at which they were annotated",
    ),
    "no picture": (no_picture, [], "is not an image that can be read", "replace or remove it"),
    "image missing": (
        lambda r: None,
        REFUSE,
        "{root}: 1 times an annotated image that is missing, such as 'train/",
        "datamodule.unmatched=drop",
    ),
    "image unknown": (
        complete,
        REFUSE,
        "{root}: 1 times an image without an annotation, such as 'train_data/",
        "complete the download",
    ),
    "a class misspelt": (
        lambda r: None,
        ["module.classes=[Nodul]"],
        "datamodule.classes names 'Nodul', which ChestX-Det does not",
        "write 'Nodule'",
    ),
    "a class not shown": (
        lambda r: None,
        ["module.classes=[Mass,Fracture]"],
        "{root} has no finding 'Fracture'",
        "module.classes to some of",
    ),
    "classes of two minds": (
        lambda r: None,
        ["datamodule.classes=[Mass]"],
        "but the data has ['Mass']",
        "set module.classes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused(name, root, refuses_spoilt):
    spoil, words, wrong, mend = BAD[name]
    refuses_spoilt([*WORDS, *words], root, spoil, wrong, mend)


@pytest.mark.slow
def test_a_run_counts_its_warts_and_scores_each_class_and_their_mean(root, cli, tmp_path):
    before = folder_hash(root)
    code, said = cli(*WORDS, f"datamodule.root={root}")
    assert code == 0 and folder_hash(root) == before, said
    found = json.loads((tmp_path / "run/report.json").read_text())
    assert {reason: case["count"] for reason, case in found["data"]["cleaning"].items()} == WARTS
    scores = found["scores"]["test"]
    assert set(scores) == {*FINDING_KINDS, "mean of classes"} and set(found["rule"]) == set(
        FINDING_KINDS
    )
    for name in ("dice_lesions", "average_precision"):
        known = [
            scores[kind][name]["value"]
            for kind in FINDING_KINDS
            if scores[kind][name]["value"] is not None
        ]
        assert scores["mean of classes"][name]["value"] == pytest.approx(sum(known) / len(known))
        assert (
            scores["mean of classes"][name]["low"] is None
            or scores["mean of classes"][name]["low"] <= scores["mean of classes"][name]["value"]
        )
    positive = found["data"]["splits"]["test"]["positive"]
    syms = [set(entry["syms"]) for entry in json.loads((root / "ChestX_Det_test.json").read_text())]
    assert positive == {kind: sum(kind in one for one in syms) for kind in FINDING_KINDS}
    assert scores["Effusion"]["dice_lesions"]["n"] == positive["Effusion"]
