"""Tests of the check of a data set: every fault is counted and printed, nothing is written."""

import json

import pytest
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.preparation.crop import crop_dataset
from datamodules.preparation.export import export_dataset
from datamodules.preparation.inspect import check_dataset, count_times
from tests.conftest import folder_hash
from tests.unit.datamodules.preparation.conftest import N, module


@pytest.fixture
def exported(root, tmp_path):
    return export_dataset(module(root), tmp_path / "exported", None)


def test_a_sound_data_set(exported, root, capsys):
    before = folder_hash(exported), folder_hash(root)
    summary = check_dataset(module(exported, "meta.json"))
    assert (
        summary["rows"] == N
        and summary["patients"] == 6
        and summary["splits"] == {"test": 3, "train": 12, "val": 3}
    )
    assert summary["strata"]["0_none"] == 6 and sum(summary["strata"].values()) == N
    assert (
        summary["cls_prob"] == {"known": N - 1, "lowest": 0.0, "highest": 1.0}
        and summary["problems"] == {}
    )
    assert (
        not list((exported.parent / "cache").glob("images-*"))
        and (folder_hash(exported), folder_hash(root)) == before
    )


def test_any_manifest_and_crops_are_looked_at(root, tmp_path):
    summary = check_dataset(module(root))
    assert summary["strata"]["0_none"] == 6 and summary["problems"] == {}
    folder = crop_dataset(module(root), tmp_path / "crops")
    assert check_dataset(module(folder, "meta.json", mask_column="cropped_mask"))["problems"] == {}
    (folder / "crops" / "a_7.png").unlink()
    Image.new("L", (5, 5)).save(folder / "crops" / "a_8.png")
    with pytest.raises(
        ManifestError,
        match=(
            r"cropped mask of another size than its crop, .*a_8\.png.*missing cropped mask,"
            r" .*a_7\.png"
        ),
    ):
        check_dataset(module(folder, "meta.json"))


def test_all_that_is_wrong_is_said(exported, capsys):
    (exported / "images" / "a_1.png").unlink()
    (exported / "images" / "a_3.png").write_bytes(b"broken")
    (exported / "images" / "a_6.png").write_bytes(
        (exported / "images" / "a_6.png").read_bytes()[:900]
    )
    (exported / "masks" / "a_4.png").unlink()
    (exported / "masks" / "a_5.png").write_bytes(b"broken")
    Image.new("L", (20, 30), 255).save(exported / "masks" / "a_7.png")
    Image.new("L", (80, 60)).save(exported / "masks" / "a_8.png")
    entries = json.loads((exported / "meta.json").read_text())
    entries[10] |= {"has_pnx": 0, "strata": "0_none"}
    (exported / "meta.json").write_text(json.dumps(entries))
    before = folder_hash(exported)
    with pytest.raises(ManifestError) as refusal:
        check_dataset(module(exported, "meta.json"))
    said, printed = str(refusal.value), capsys.readouterr().out
    for what, count, name in (
        ("missing image", 1, "images/a_1.png"),
        ("unreadable image", 2, "images/a_3.png"),
        ("missing mask", 1, "masks/a_4.png"),
        ("unreadable mask", 1, "masks/a_5.png"),
        ("mask of another size than its image", 1, "masks/a_7.png"),
        ("has_pnx=1 and an empty mask", 1, "masks/a_8.png"),
        ("has_pnx=0 and a mask that is not empty", 1, "masks/a_10.png"),
    ):
        assert f"{count_times(count)} {what}, such as '{exported / name}'" in said
        assert f"{count_times(count)} {what}: {exported / name}" in printed
    assert said.endswith("restore or correct the files, or remove their rows") and "\n" not in said
    assert folder_hash(exported) == before


def test_a_meta_that_contradicts_itself_is_refused_at_once(exported):
    entries = json.loads((exported / "meta.json").read_text())
    (exported / "meta.json").write_text(
        json.dumps([*entries, {"id": "z", "image_path": "z.png", "has_pnx": 3}])
    )
    with pytest.raises(ManifestError, match="entry 'z' has has_pnx=3"):
        check_dataset(module(exported, "meta.json"))


def test_a_probability_that_is_none_is_counted(root):
    content = json.loads((root / "manifest.json").read_text())
    content["rows"][2]["cls_prob"] = 1.5
    (root / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"1 time cls_prob outside 0\.\.1, such as 'a/2'"):
        check_dataset(module(root))
