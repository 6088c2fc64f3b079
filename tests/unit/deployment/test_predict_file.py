"""The command line of a bundle: what it reads, what it leaves out, and what it refuses."""

import csv
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.errors import UserError
from deployment.bundle import write_bundle
from deployment.bundle_main import main
from deployment.inference import Decision
from deployment.predictor import Predictor
from deployment.result_files import describe_rule
from deployment.trained_network import load_trained_network
from tests.factories.optional import import_optional, lack
from tests.factories.trained_run import as_test_images, mask_module, write_images, write_run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of a small network; tests do not change it."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name)
    folder = tmp_path_factory.mktemp("run")
    run = write_run(folder / "run", mask_module(["a"]), [[130.0, 0.0, 120.0]])
    images = as_test_images(write_images(folder / "images", [(64, 64)]))
    return write_bundle(load_trained_network(run), images)[0]


def write_report_dicom(path: Path) -> None:
    """Write a DICOM without an image."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    made.Modality = "SR"
    made.save_as(path, enforce_file_format=True)


def test_files_without_a_prediction_are_listed_and_the_others_predicted(bundle, tmp_path, capsys):
    images = tmp_path / "images"
    write_images(images, [(50, 40), (30, 30), (20, 90)])
    write_report_dicom(images / "report.dcm")
    (images / "notes.txt").write_text("x")
    (images / "damaged.png").write_bytes(b"\x89PNG")
    assert main([str(images), "--out", str(tmp_path / "out"), "--batch", "2"], bundle) == 3
    with (tmp_path / "out/left_out.csv").open() as file:
        reasons = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}
    assert sorted(reasons) == ["damaged.png", "notes.txt", "report.dcm"]
    assert reasons["report.dcm"] == "a DICOM without an image (modality SR)"
    written = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert written == ["image0.png", "image1.png", "image2.png"]
    assert "1 of 4 files cannot be read" in capsys.readouterr().err


def test_a_damaged_file_does_not_move_results_to_another_image(bundle, tmp_path):
    images = tmp_path / "images"
    paths = write_images(images, [(50, 40), (30, 30), (20, 90)])
    paths[1].write_bytes(b"\x89PNG")
    assert main([str(images), "--out", str(tmp_path / "out"), "--batch", "3"], bundle) == 3
    predict = Predictor.from_bundle(bundle)
    for path in (paths[0], paths[2]):
        written = cv2.imread(str(tmp_path / "out/masks" / path.name), -1)
        assert np.array_equal(written, predict(path).mask * np.uint8(255))


def test_maps_and_overlays_have_the_size_of_the_image(bundle, tmp_path):
    (path,) = write_images(tmp_path, [(50, 41)])
    more = ["--probability-maps", "--overlays"]
    assert main([str(path), "--out", str(tmp_path / "out"), *more], bundle) == 0
    expected = Predictor.from_bundle(bundle)(path).probability_map[0]
    written = cv2.imread(str(tmp_path / "out/probability_maps/image0.png"), -1)
    assert written.dtype == np.uint16
    assert np.abs(written / 65535 - expected).max() < 1e-5
    assert cv2.imread(str(tmp_path / "out/overlays/image0.png"), -1).shape == (50, 41, 3)


def test_equal_stems_in_two_folders_get_their_own_files(bundle, tmp_path):
    write_images(tmp_path / "images/a", [(30, 30)])
    write_images(tmp_path / "images/b", [(40, 30)])
    assert main([str(tmp_path / "images"), "--out", str(tmp_path / "out")], bundle) == 0
    written = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert written == ["a_image0.png.png", "b_image0.png.png"]


def test_color_images_are_counted(bundle, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((30, 30, 3), (0, 0, 200), np.uint8))
    assert main([str(tmp_path / "red.png"), "--out", str(tmp_path / "out")], bundle) == 0
    assert "1 color images were converted to gray" in capsys.readouterr().out


def test_a_folder_without_images_and_a_missing_file_are_refused(bundle, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")], bundle) == 2
    assert (
        "holds no image (notes.txt: no image by its suffix or content)" in capsys.readouterr().err
    )
    assert main([str(tmp_path / "no.png"), "--out", str(tmp_path / "out")], bundle) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_changed_network_is_refused(bundle, tmp_path, capsys):
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with (other / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    (path,) = write_images(tmp_path, [(30, 30)])
    assert main([str(path), "--out", str(tmp_path / "out")], other) == 2
    assert "its hash differs" in capsys.readouterr().err
    (other / "bundle.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read as the description of a bundle"):
        Predictor.from_bundle(other)


def test_a_bundle_of_a_later_version_is_refused(bundle, tmp_path):
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    settings = json.loads((other / "bundle.json").read_text())
    (other / "bundle.json").write_text(json.dumps(settings | {"bundle_version": 99}))
    with pytest.raises(UserError, match="version 99, newer than 1"):
        Predictor.from_bundle(other)


def test_a_missing_onnxruntime_is_named(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (path,) = write_images(tmp_path, [(30, 30)])
    assert main([str(path), "--out", str(tmp_path / "out")], bundle) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--batch", "0"], ["--dicom", "pdf"], ["--min-component", "-1"]])
def test_impossible_options_are_refused(bundle, tmp_path, words):
    (path,) = write_images(tmp_path, [(30, 30)])
    assert main([str(path), "--out", str(tmp_path / "out"), *words], bundle) == 2


def test_a_full_disk_ends_in_a_sentence_and_leaves_what_is_done(
    bundle, tmp_path, monkeypatch, capsys
):
    paths = write_images(tmp_path, [(30, 30), (40, 30)])
    own = Path.write_bytes

    def write(path, content):
        if path.name == "image1.png":
            raise OSError(28, "No space left on device", str(path))
        return own(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert main([*map(str, paths), "--out", str(tmp_path / "out"), "--batch", "1"], bundle) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    with (tmp_path / "out/predictions.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["image0"]


def test_rules_in_words():
    one = Decision(target="label", classes=("ill",), exclusive=False, rule=((0.25, 2.0, 1.0),))
    assert describe_rule(one) == "probability >= 0.25"
    two = Decision(target="mask", classes=("a",), exclusive=False, rule=((136.0, 0.01, 128.0),))
    assert describe_rule(two) == (
        "pixels of probability >= 0.5, if at least 0.01 of the image have a probability >= 0.7311"
    )


@pytest.mark.slow
def test_predict_runs_in_an_environment_of_five_packages(bundle, tmp_path):
    paths = write_images(tmp_path / "images", [(64, 64), (51, 77), (130, 40)])
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin/python"
    packages = ["onnxruntime", "numpy", "opencv-python-headless", "pydicom", "pillow"]
    command = [str(python), "-m", "pip", "install", "-q", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lack(f"no package registry: {done.stderr[-200:]}")
    outside = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    done = subprocess.run(
        [str(python), outside / "predict.py", tmp_path / "images", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    predict = Predictor.from_run(bundle.parent)
    for path in paths:
        written = cv2.imread(str(tmp_path / "out/masks" / path.name), -1)
        assert np.array_equal(written, predict(path).mask * np.uint8(255))
