"""Tests that the heading of a page names task and data, whatever the experiment is called."""

from types import SimpleNamespace

import pytest

import datamodules
from reporting.live_run import identify_data
from reporting.task_view import page_heading
from tests.factories.run_folder import labels, left

KINDS = {
    "BrainTumorDataModule": "brain MRI",
    "BoneScanDataModule": "bone scans",
    "ChestXrayDataModule": "chest radiographs",
    "ChestXDetDataModule": "chest radiographs",
    "PneumothoraxDataModule": "chest radiographs",
    "TableDataModule": "",
    "FolderDataModule": "",
}


@pytest.mark.parametrize(
    ("kind", "classes", "images", "root", "phantom", "heading"),
    [
        (
            *("mask", ["tumor"], "brain MRI", "/data/brain_tumor", True),
            "Segmentation of brain MRI: tumor (brain_tumor, phantom data)",
        ),
        ("mask", ["lung"], "", "/data/openist_lungs", False, "Segmentation of openist_lungs: lung"),
        ("mask", ["lung"], "", "/data/lungs", True, "Segmentation of lungs: lung (phantom data)"),
        (
            *("label", ["a", "b", "c"], "chest radiographs", "films", False),
            "Classification of chest radiographs: a, b, c (films)",
        ),
        (
            *("label", list("abcd"), "bone scans", "", False),
            "Classification of bone scans: 4 classes",
        ),
    ],
)
def test_the_heading_names_task_images_classes_and_folder(
    kind, classes, images, root, phantom, heading
):
    data = {"image_kind": images, "root": root, "phantom": phantom}
    assert page_heading(kind, classes, data) == heading


def test_outputs_of_a_run_are_named_by_its_experiment_and_not_by_the_date_of_its_folder(tmp_path):
    run = left(tmp_path / "weak_bone_scan/2026-01-01_10-00-00", labels(), 0.5, title="weak_bone")
    table = SimpleNamespace(phantom=True)
    data = SimpleNamespace(root=run, image_kind="bone scans", phantom=None, table=table)
    expected = "Segmentation of bone scans: abnormal (run of weak_bone, phantom data)"
    assert page_heading("mask", ["abnormal"], identify_data(data)) == expected
    data.root = tmp_path / "scans"
    assert identify_data(data)["name"] == "scans"


@pytest.mark.parametrize("name", KINDS)
def test_every_data_module_names_its_images_or_leaves_it_to_the_folder(name):
    assert getattr(datamodules, name).image_kind == KINDS[name]
