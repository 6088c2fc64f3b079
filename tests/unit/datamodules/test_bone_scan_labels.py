"""Tests of a bone scan folder's label file: any encoding is read and a wrong line is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.bone_scan import read_bone_labels
from datamodules.errors import ManifestError

WRITTEN = {
    "plain": b"1.jpg\t0\n2.jpg\t1\n",
    "no last line end": b"1.jpg\t0\n2.jpg\t1",
    "windows": b"\xef\xbb\xbf1.jpg\t0\r\n2.jpg\t1\r\n",
    "old mac": b"1.jpg\t0\r2.jpg\t1\r",
    "notepad": "1.jpg\t0\r\n2.jpg\t1\r\n".encode("utf-16"),
    "spaces": b" 1.jpg \t 0 \n2.jpg\t\t1\t\n",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_encodings_and_line_ends_make_no_difference(name, tmp_path):
    (tmp_path / "a.txt").write_bytes(WRITTEN[name])
    labels = read_bone_labels(tmp_path / "a.txt")
    assert (
        labels.by_file == {"1.jpg": 0, "2.jpg": 1}
        and labels.line_numbers == {"1.jpg": 1, "2.jpg": 2}
        and labels.n_blank == 0
    )


def test_blank_lines_and_repeats_are_counted_and_keep_the_line_numbers(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1.jpg\t0\n\n2.jpg\t1\n1.jpg\t0\n \n")
    labels = read_bone_labels(tmp_path / "a.txt")
    assert (
        labels.by_file == {"1.jpg": 0, "2.jpg": 1}
        and labels.line_numbers["2.jpg"] == 3
        and (labels.n_blank, labels.repeated) == (2, ["1.jpg"])
    )


NAMES = st.lists(st.integers(1, 9999), min_size=1, unique=True)


@given(
    NAMES,
    st.data(),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_is_written_is_read(tmp_path_factory, numbers, data, end, encoding):
    written = {f"{number}.jpg": data.draw(st.integers(0, 1)) for number in numbers}
    path = tmp_path_factory.getbasetemp() / "written.txt"
    path.write_bytes(
        "".join(f"{name}\t{label}{end}" for name, label in written.items()).encode(encoding)
    )
    assert read_bone_labels(path).by_file == written


BAD = {
    "no tab": (b"1.jpg\t0\n2.jpg 1\n", r"line 2 of .*a\.txt has no tab \('2\.jpg 1'\); write"),
    "a name alone": (b"1.jpg\n", r"line 1 of .*has no tab"),
    "a word": (
        b"1.jpg\tabnormal\n",
        r"line 1 of .*labels '1\.jpg' as 'abnormal'; write 0 for normal or 1",
    ),
    "a two": (b"1.jpg\t0\n\n3.jpg\t2\n", r"line 3 of .*labels '3\.jpg' as '2'"),
    "no label": (b"1.jpg\t\n", r"line 1 of .*labels '1\.jpg' as ''; write 0"),
    "no name": (b"\t1\n", r"line 1 of .*names no image before its tab"),
    "twice": (
        b"1.jpg\t0\n2.jpg\t1\n1.jpg\t1\n",
        r"the label of '1\.jpg' is 0 in line 1 and 1 in line 3; remove",
    ),
    "empty": (b"\n\n", r"a\.txt holds no label; write one line an image"),
    "no text": (b"\xff\xd8\xff\xe0\x00", r"a\.txt cannot be read as text .*; save it as UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_line_is_refused_in_a_sentence(name, tmp_path):
    content, said = BAD[name]
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ManifestError, match=said) as error:
        read_bone_labels(tmp_path / "a.txt")
    assert "\n" not in str(error.value)
