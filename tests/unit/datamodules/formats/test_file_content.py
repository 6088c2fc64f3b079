"""Whole files of others: regular, of a limited size, valid and shallow."""

import os

import pytest

from datamodules.errors import ManifestError
from datamodules.formats import file_content
from datamodules.formats.file_content import (
    check_file,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    shorten,
)
from datamodules.formats.image_files import special_files, walk_files
from datamodules.formats.yaml_content import read_yaml_mapping


def odd_files(folder):
    """Make one of each kind of what is no file; return name -> what a message says of it."""
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("/nonexistent")
    return {
        "pipe": "is a pipe, a socket or a device",
        "device": "is a pipe, a socket or a device",
        "folder": "is a folder",
        "loop": "cannot be read",
        "dangling": "does not exist",
        "none": "does not exist",
    }


@pytest.mark.parametrize("read", [check_file, read_bytes, read_text, read_json, read_yaml_mapping])
def test_what_is_no_file_is_refused_and_not_opened(read, tmp_path):
    for name, said in odd_files(tmp_path).items():
        with pytest.raises(ManifestError, match=said):
            read(tmp_path / name)
    with pytest.raises(ManifestError, match="cannot be read"):
        read(tmp_path / "a\0b")


def test_special_files_are_listed_and_not_walked(tmp_path):
    odd_files(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert [path.name for path in walk_files(tmp_path)] == ["a.txt"]
    assert [path.name for path in special_files(tmp_path)] == ["dangling", "device", "loop", "pipe"]


def test_the_limit_names_its_key(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    assert read_json(path, 400) == [1, 2, 3]
    with pytest.raises(ManifestError, match=r"9 bytes.*datamodule\.max_file_bytes=9 "):
        read_json(path, 8)
    with pytest.raises(ManifestError, match=r"1,000 values.*datamodule\.max_file_bytes=32000 "):
        parse_json("[" + "1," * 1000 + "1]", "a.json", 31_000)


def test_a_limit_that_no_key_raises_names_none(tmp_path, monkeypatch):
    monkeypatch.setattr(file_content, "MAX_FILE_BYTES", 320)
    path = tmp_path / "a.json"
    for content in ("1" * 321, "[" + "1," * 11 + "1]"):
        path.write_text(content)
        with pytest.raises(ManifestError, match=r"above the limit of .*; restore it$"):
            read_json(path, fix="restore it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "not valid JSON"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "the key 'c' twice"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_is_refused(text, said):
    with pytest.raises(ManifestError, match=f"a.json .*{said}"):
        parse_json(text, "a.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1]\nb: *a\n", "aliases"),
        ("a: " + "[" * 100, "nested too deeply"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
        ("- a\n", "no mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_yaml_that_is_refused(text, said, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_yaml_mapping(path)


def test_shorten_gives_one_printable_line():
    assert shorten("a\nb\0c") == "a?b?c"
    assert shorten("x" * 300, 10) == "xxxxxxx..."
