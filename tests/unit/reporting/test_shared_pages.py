"""Pages and tables that are shared: no absolute paths, and no cells that a spreadsheet runs."""

from pathlib import Path

import pytest

from reporting.relative_paths import hide_folders, page_folders, relative_config
from reporting.rendering import render
from reporting.tables import spreadsheet_cell


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_become_texts(text):
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+3e-4", "-inf", "dice", "", None, 3, -0.5])
def test_numbers_and_plain_texts_stay(value):
    assert spreadsheet_cell(value) == value


def test_a_configuration_without_absolute_paths():
    config = {
        "paths": {"run": "/home/ann/runs/demo/1", "cache": "/scratch/cache", "runs": "runs"},
        "datamodule": {"root": "/data/hospital/scans", "cache_dir": "/scratch/cache"},
        "ckpt_path": "/mnt/elsewhere/bob/best.ckpt",
        "callbacks": [{"dirpath": "/home/ann/runs/demo/1/checkpoints"}],
        "image_size": 64,
    }
    folders = page_folders(config, Path("/home/ann/runs/demo/1"))
    assert relative_config(config, folders) == {
        "paths": {"run": ".", "cache": "CACHE", "runs": "runs"},
        "datamodule": {"root": "DATA", "cache_dir": "CACHE"},
        "ckpt_path": ".../best.ckpt",
        "callbacks": [{"dirpath": "./checkpoints"}],
        "image_size": 64,
    }


def test_the_longest_folder_is_replaced_first():
    folders = {"/a": "A", "/a/b & c": "B"}
    assert hide_folders("/a/b & c/x /a/b &amp; c/y /a/z", folders) == "B/x B/y A/z"


def test_every_page_hides_the_home_of_its_author(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    page = render(
        "leaderboard.html",
        title="Leaderboard",
        heading=None,
        phantom=False,
        found={
            "groups": [],
            "parts": [],
            "several": [],
            "rest": [
                {
                    "run": "r",
                    "title": "",
                    "status": "failed",
                    "reason": "/home/ann/data is empty",
                    "when": "2026-11-01T10:00:00+00:00",
                }
            ],
        },
    )
    assert "/home/ann" not in page and "~/data is empty" in page
