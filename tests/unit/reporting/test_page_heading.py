"""Tests that the heading of a page names task and data, whatever the experiment is called."""

import pytest

import datamodules
from reporting.task_view import page_heading

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


@pytest.mark.parametrize("name", KINDS)
def test_every_data_module_names_its_images_or_leaves_it_to_the_folder(name):
    assert getattr(datamodules, name).image_kind == KINDS[name]
