"""Tests of volumes as slices: axes, grids, values, groups, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from datamodules.errors import ManifestError, UserError
from datamodules.formats import volumes
from datamodules.formats.volumes import SliceIndex, read_grid, read_slice
from datamodules.manifest.manifest import read_manifest, spacing_matrix
from datamodules.own_data import OwnDataModule


def write(path: Path, values: np.ndarray, spacing=(0.7, 0.8, 3.0), **grid) -> Path:
    """Write `Z x Y x X`, or `frames x Z x Y x X`."""
    if values.ndim == 4:
        image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(each) for each in values])
        image.SetSpacing((*spacing, 1.0))
    else:
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing(spacing)
        image.SetOrigin(grid.get("origin", (1.0, 2.0, 3.0)))
        image.SetDirection(grid.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    return path


def pair(root: Path, n: int, dtype=np.int16, **mask_grid) -> np.ndarray:
    """Write image and label volume of a case; the second of three slices has no label."""
    rng = np.random.default_rng(n)
    values = rng.integers(-900, 900, (3, 40, 36)).astype(dtype)
    labels = np.zeros(values.shape, np.uint8)
    labels[0, 10:20, 5:15], labels[2, 3:9, 20:30] = 1, 2
    write(root / "images" / f"case{n:02d}.nii.gz", values)
    write(root / "masks" / f"case{n:02d}.nii.gz", labels, **mask_grid)
    return values


def own(root: Path, **more) -> OwnDataModule:
    words = {"image_size": 64, "num_workers": 0, "window": [-900.0, 900.0]} | more
    return OwnDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


@pytest.fixture
def root(tmp_path):
    for n in range(10):
        pair(tmp_path / "data", n)
    return tmp_path / "data"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_are_those_of_nibabel_and_pages_follow_the_file(axis, tmp_path):
    values = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)  # Z x Y x X
    path = write(tmp_path / "a.nii.gz", values, spacing=(1.0, 2.0, 3.0))
    by_nibabel = values.transpose()  # nibabel indexes [x, y, z]
    for number in range(by_nibabel.shape[axis]):
        index = SliceIndex(axis, number)
        pixels = read_slice(path, index, 1, None, 10**6).pixels[..., 0]
        assert np.array_equal(pixels, by_nibabel.take(number, axis).transpose())
        assert read_grid(path).slice_size(axis) == pixels.shape
    row, column = read_grid(path).slice_spacing(axis)
    assert (row, column) == {0: (3, 2), 1: (3, 1), 2: (2, 1)}[axis]


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), 2), ((3, 1, 1), 0), ((1, 3, 1), 1), ((3, 3, 1), 2), ((1, 1.005, 1), 2)],
)
def test_auto_takes_the_axis_of_the_largest_spacing(spacing, axis, tmp_path):
    path = write(tmp_path / "a.nrrd", np.zeros((4, 5, 6), np.uint8), spacing)
    assert read_grid(path).thick_axis == axis


def test_rows_are_slices_with_spacing_group_and_values(root):
    data = own(root)
    rows = data.table.rows
    assert data.table.group_is == "patient" and rows["group"].nunique() == 10
    assert rows["id"].tolist()[:4] == [
        "images/case00#000",
        "images/case00#001",
        "images/case00#002",
        "images/case01#000",
    ]
    assert rows["slice"].tolist() == [0, 1, 2] * 10 and rows["axis"].tolist() == [2] * 30
    assert np.allclose(spacing_matrix(data.table, np.arange(30)), [0.8, 0.7])
    assert data.table.classes == ("class_1", "class_2") and data.table.exclusive
    data.prepare_data()
    values = pair(root.parent / "again", 4)
    for number in range(3):
        row = 12 + number
        levels = data.cache.images[row]
        shown = data.cache.level_map(row).values(levels)[14 : 14 + 36]  # not the padding
        assert data.cache.sizes[row].tolist() == [40, 36]
        assert levels.dtype == np.uint16 and shown.max() <= 900
        image = data.table.read_image(row, 1)
        assert np.array_equal(image.levels.values(image.pixels[..., 0]), values[number])
    assert len(set(data.cache.digests.tolist())) == 30


def test_a_volume_is_decoded_once_for_all_its_slices(root, monkeypatch):
    decoded = []
    read = volumes.read_volume
    monkeypatch.setattr(
        volumes,
        "read_volume",
        lambda path, *more: (decoded.append(path), read(path, *more))[1],
    )
    data = own(root)
    _ = data.table
    decoded.clear()  # the values of the masks were surveyed
    data.prepare_data()
    assert len(decoded) == len(set(decoded)) == 20
    assert not volumes._kept._volumes


def test_empty_slices_are_dropped(root):
    data = own(root, empty_slices="drop")
    assert data.table.rows["slice"].tolist() == [0, 2] * 10
    assert data.cleaning["slice without a label: left out (datamodule.empty_slices)"] == 10


def test_a_manifest_of_slices_is_written_and_read_again(root, tmp_path):
    data = own(root)
    for name in ("m.csv", "m.json"):
        again = read_manifest(data.table.write(tmp_path / name))
        assert [again.slice_index(row) for row in range(30)] == [
            data.table.slice_index(row) for row in range(30)
        ]


def test_frames_of_a_4d_volume(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 4, 20, 30)).astype(np.uint8)
    path = write(tmp_path / "a.nii.gz", frames)
    assert read_grid(path).frames == 3
    pixels = read_slice(path, SliceIndex(2, 1), 1, 2, 10**6).pixels
    assert np.array_equal(pixels[..., 0], frames[2, 1])
    with pytest.raises(ManifestError, match=r"holds 3 frames, .* datamodule\.frame=0"):
        read_slice(path, SliceIndex(2, 1), 1, None, 10**6)
    with pytest.raises(ManifestError, match=r"so datamodule\.frame=3 does not exist"):
        read_slice(path, SliceIndex(2, 1), 1, 3, 10**6)


def test_the_decathlon_writes_names_by_value_and_no_channels(root):
    (root / "images").rename(root / "imagesTr")
    (root / "masks").rename(root / "labelsTr")
    (root / "dataset.json").write_text('{"labels": {"0": "background", "1": "liver", "2": "cyst"}}')
    data = own(root)
    assert data.match.layout.name == "nnunet" and data.table.classes == ("liver", "cyst")
    assert len(data.table) == 30


def damaged(root: Path) -> None:
    (root / "images/case03.nii.gz").write_bytes(b"nothing")


def nan(root: Path) -> None:
    values = np.ones((3, 40, 36), np.float32)
    values[1, 2, 3] = np.nan
    (root / "images/case03.nii.gz").unlink()
    write(root / "images/case03.nrrd", values)  # ITK reads NaN of NIfTI as 0


def colors(root: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((3, 40, 36, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(root / "images/case03.nii.gz"))


REFUSED = {
    "another size": (
        lambda root: write(root / "masks/case03.nii.gz", np.zeros((3, 40, 35), np.uint8)),
        r"case03\.nii\.gz and .*masks/case03\.nii\.gz are not on one grid: they have 36 x 40 x 3"
        " and 35 x 40 x 3 voxels; resample",
    ),
    "another place": (
        lambda root: pair(root, 3, origin=(1.0, 2.0, 3.2)),
        r"case03\.nii\.gz are not on one grid: they have positions .* up to 0\.2 mm apart",
    ),
    "mirrored": (
        lambda root: pair(root, 3, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        "not on one grid: they have positions in space",
    ),
    "different planes": (
        lambda root: [
            write(root / f"{of}/case03.nii.gz", np.zeros((3, 40, 36), np.uint8), (5.0, 1.0, 1.0))
            for of in ("images", "masks")
        ],
        r"case00\.nii\.gz has its largest spacing along axis 2, and .*case03.* along axis 0, .*"
        r"datamodule\.axis=2",
    ),
    "a frame": (
        lambda root: write(
            root / "images/case03.nii.gz", np.zeros((2, 3, 40, 36), np.uint8), (0.7, 0.8, 3.0)
        ),
        "are not on one grid",
    ),
    "damaged": (damaged, r"case03\.nii\.gz cannot be read as a volume \("),
    "NaN": (nan, r"case03\.nrrd holds 1 voxel in slice 1 that is NaN or infinite"),
    "colors": (colors, r"case03\.nii\.gz holds 3 numbers per voxel"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_uncertain_is_refused(kind, root):
    change, sentence = REFUSED[kind]
    change(root)
    with pytest.raises(ManifestError, match=sentence) as refusal:
        own(root).prepare_data()
    assert "\n" not in str(refusal.value)


def test_equal_grids_of_rounded_headers_are_accepted(root):
    pair(root, 3, origin=(1.0001, 2.0, 3.001))
    own(root).prepare_data()


def test_the_package_is_named_where_it_is_missing(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)  # an import fails
    with pytest.raises(
        UserError, match=r"needs .* SimpleITK; pip install 'medical-lightning\[formats"
    ):
        own(root).prepare_data()


def test_values_beside_a_header_are_part_of_the_cache(tmp_path):
    for n in range(10):
        for of, top in (("images", 255), ("masks", 2)):
            values = np.random.default_rng(n).integers(0, top, (2, 32, 32)).astype(np.uint8)
            write(tmp_path / "data" / of / f"v{n}.mhd", values)
    data = own(tmp_path / "data", image_size=32)
    data.prepare_data()
    write(tmp_path / "data/images/v3.mhd", np.full((2, 32, 32), 7, np.uint8))
    again = own(tmp_path / "data", image_size=32)
    again.prepare_data()
    assert (again.cache.images[6] == 7).all() and again.cache.folder != data.cache.folder
