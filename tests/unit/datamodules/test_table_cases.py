"""Small tables rebuilt from public bug reports, through datamodule=table and do=[inspect]."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.preparation.inspect import check_dataset
from datamodules.table import TableDataModule

N = 24
SPLITS = ["train"] * 12 + ["val"] * 6 + ["test"] * 6


def write(root: Path, label, group=lambda n: f"p{n}", separator=",", bom="") -> Path:
    root.mkdir(parents=True)
    lines = [separator.join(["id", "image", "label", "group", "split"])]
    for n in range(N):
        noise = np.random.default_rng(n).integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(noise).save(root / f"{n}.png")
        lines.append(separator.join([f"i{n}", f"{n}.png", label(n), group(n), SPLITS[n]]))
    (root / "manifest.csv").write_text(bom + "\r\n".join(lines), encoding="utf-8", newline="")
    return root


def table(root: Path, **more) -> TableDataModule:
    words = {"image_size": 32, "num_workers": 0, "classes": ["PNEUMONIA"]} | more
    return TableDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_separators_and_line_ends(separator, tmp_path):
    root = write(tmp_path / "data", lambda n: str(n % 2), separator=separator, bom="\ufeff")
    data = table(root)
    data.prepare_data()
    assert data.dataset(True).labels[:, 0].tolist() == [n % 2 for n in range(N)]


TEXTS = {
    "names": ("NORMAL", "PNEUMONIA", "the label of 'i0' is 'NORMAL'"),
    "yes and no": ("no", "yes", None),
    "True and False": ("False", "True", None),
    "1.0": ("0.0", "1.0", None),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_csv_label_text(kind, tmp_path):
    first, second, refusal = TEXTS[kind]
    root = write(tmp_path / "data", lambda n: second if n % 2 else first)
    if refusal is None:
        data = table(root)
        data.prepare_data()
        assert data.dataset(True).labels[:, 0].tolist() == [n % 2 for n in range(N)]
        return
    for check in (lambda data: data.prepare_data(), check_dataset):
        with pytest.raises(ManifestError, match=refusal):
            check(table(root))
    both = table(root, classes=["NORMAL", "PNEUMONIA"])
    both.prepare_data()
    assert both.dataset(True).labels.tolist() == [[1 - n % 2, n % 2] for n in range(N)]


def test_csv_blank_label_and_validate_labels(tmp_path):
    root = write(tmp_path / "data", lambda n: "" if n == 5 else ("PNEUMONIA", "0")[n % 2])
    for check in (lambda data: data.prepare_data(), check_dataset):
        with pytest.raises(ManifestError, match=r"the label of 'i5' is empty; give a whole"):
            check(table(root))


def test_csv_group_na(tmp_path):
    few = write(tmp_path / "few", lambda n: str(n % 2), lambda n: "NA" if n < 3 else f"p{n}")
    assert table(few).read_manifest().rows["group"].tolist()[:4] == ["NA", "NA", "NA", "p3"]
    many = write(tmp_path / "many", lambda n: str(n % 2), lambda n: "null" if n % 3 else f"p{n}")
    with pytest.raises(ManifestError, match="16 of 24 images have the group 'null'"):
        _ = table(many).table
    empty = write(tmp_path / "empty", lambda n: str(n % 2), lambda n: "")
    assert table(empty).table.rows["group"].tolist() == [f"i{n}" for n in range(N)]
