"""Tests of the SIIM-ACR table: read as published, or refused with a fix."""

import gzip

import pytest

from datamodules.errors import ManifestError
from datamodules.pneumothorax import read_siim_csv, write_siim_csv

PUBLISHED = "ImageId, EncodedPixels\na,1 2 3 4\nb, -1\na,7 1\nc,-1\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="train.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_rows_of_an_image_keep_their_order(written, name):
    assert read_siim_csv(written(PUBLISHED, name)) == {
        "a": ["1 2 3 4", "7 1"],
        "b": ["-1"],
        "c": ["-1"],
    }


def test_a_mark_line_ends_blank_lines_and_more_columns_do_no_harm(written):
    assert read_siim_csv(
        written("\ufeffdate,ImageId,EncodedPixels\r\n1,a,1 2\r\n\r\n2,b,-1\r\n")
    ) == {"a": ["1 2"], "b": ["-1"]}


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_what_is_written_is_read(tmp_path, name):
    write_siim_csv(tmp_path / name, {"a": "1 2 3 4", "b": "-1"})
    assert read_siim_csv(tmp_path / name) == {"a": ["1 2 3 4"], "b": ["-1"]}
    if name == "out.csv":
        assert (tmp_path / name).read_text() == "ImageId,EncodedPixels\na,1 2 3 4\nb,-1\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,rle\na,-1\n", r"no column ImageId and no EncodedPixels, only id, rle; .*rename"),
        ("ImageId,mask\na,-1\n", "no column EncodedPixels, only ImageId, mask"),
        ("", "no column"),
        ("ImageId, EncodedPixels\n", "has no rows"),
        ("ImageId, EncodedPixels\na,-1\nb\n", "row 3 has no EncodedPixels"),
        ("ImageId, EncodedPixels\n,-1\n", "row 2 has no ImageId"),
        (
            "ImageId, EncodedPixels\nb,-1\na,1 2\na, -1\n",
            "image 'a' has a row -1 .* and a row with a mask",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(written, text, sentence):
    path = written(text)
    with pytest.raises(ManifestError, match=sentence) as error:
        read_siim_csv(path)
    assert str(error.value).startswith(str(path))


def test_what_cannot_be_read_is_refused(written, tmp_path):
    broken = tmp_path / "broken.csv.gz"
    for content in (b"no gzip", gzip.compress(PUBLISHED.encode())[:-12]):
        broken.write_bytes(content)
        with pytest.raises(ManifestError, match="cannot be read"):
            read_siim_csv(broken)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"ImageId,EncodedPixels\n\xff\xfe,-1\n")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_siim_csv(latin)
    with pytest.raises(ManifestError, match="does not exist"):
        read_siim_csv(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_limit_holds_for_the_content(tmp_path, name):
    texts = {str(n): "1 2" for n in range(100)}
    write_siim_csv(tmp_path / name, texts)
    size = len("ImageId,EncodedPixels\n") + sum(len(f"{id},1 2\n") for id in texts)
    assert len(read_siim_csv(tmp_path / name, size)) == 100
    with pytest.raises(ManifestError, match=f"{size - 1:,}"):
        read_siim_csv(tmp_path / name, size - 1)
