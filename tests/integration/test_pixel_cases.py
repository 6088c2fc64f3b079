"""Tests that pixels mean what they say: orientation, depth, window, modes, DICOMs, junk, frames.

Each test is named after the case that it shows. The inputs are a disc of radius 7 on smooth noise,
64 x 64; the expected values come from Pillow, pydicom or a computation by hand.
"""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from datamodules.bone_scan import build_index
from datamodules.brain_tumor import BrainTumorDataModule
from datamodules.chest_xray import ChestXrayDataModule
from datamodules.errors import ContentError, ManifestError
from datamodules.folder import FolderDataModule
from datamodules.formats.gray_levels import N_QUANTILES, encode_levels, summarize_values
from datamodules.formats.image_files import image_files
from datamodules.formats.image_io import DEFAULT_READER, ImageReader, read_image
from datamodules.formats.rle import encode_rle
from datamodules.image_size import SampleKey
from datamodules.manifest.validation import BLANK_REASON, CleaningReport
from datamodules.preparation.export import export_dataset
from datamodules.preparation.inspect import check_dataset
from datamodules.table import TableDataModule

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom about odd files
SIDE, RADIUS = 64, 7
SPLITS = ("train", "train", "val", "test")
TURNED = "image turned by its EXIF orientation"
AS_STORED = "image whose EXIF orientation was ignored, because its annotation does"


def disc(height=SIDE, width=SIDE, top=20, left=40):
    """Return a 0/1 mask `height x width` of a disc."""
    y, x = np.mgrid[:height, :width]
    return (np.hypot(y - top, x - left) <= RADIUS).astype(np.uint8)


def scene(mask, seed=0):
    """Return smooth dark noise with a bright disc, uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, mask.shape).astype(np.float32)
    gray = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.where(mask > 0, 230, (gray - gray.min()) / np.ptp(gray) * 90 + 20).astype(np.uint8)


def save_turned(path, shown, orientation):
    """Write a JPEG that viewers show as `shown`, with this EXIF orientation."""
    undo = {3: Image.ROTATE_180, 6: Image.ROTATE_90, 8: Image.ROTATE_270, 2: Image.FLIP_LEFT_RIGHT}
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(shown).transpose(undo[orientation]).save(
        path, exif=exif, quality=100, subsampling=0
    )
    again = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert np.abs(again.astype(int) - shown).max() < 40  # as Pillow shows it


def base(root, **more):
    return {
        "root": str(root),
        "cache_dir": str(root.parent / "cache"),
        "image_size": SIDE,
        "num_workers": 0,
    } | more


def table(root, rows, **more):
    pd.DataFrame(rows).to_json(root / "rows.json", orient="records")
    content = {"version": 1, "classes": ["lesion"], "rows": rows}
    (root / "manifest.json").write_text(json.dumps(content))
    return TableDataModule(manifest_name="manifest.json", **base(root, **more))


def sample(data, row):
    """Return image and mask of the network's input, `H x W`."""
    found = data.dataset(evaluation=False)[SampleKey(row, 0, 0, data.image_size)]
    return found["image"][0].numpy(), found["mask"][0].numpy() if "mask" in found else None


def files(root, images, suffix="png", **more):
    """Write one image per split and return the data module of their table."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for n, (split, pixels) in enumerate(zip(SPLITS, images, strict=False)):
        Image.fromarray(pixels).save(root / f"{n}.{suffix}")
        mask = encode_rle(disc(*pixels.shape[:2])[..., None])
        rows.append({"id": str(n), "image": f"{n}.{suffix}", "mask": mask, "split": split})
    return table(root, rows, **more)


def outline(mask):
    """Return the border of a mask as a COCO polygon through the centers of its pixels."""
    points = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    return (points.reshape(-1) + 0.5).tolist()


def brain(root, shown, orientation, mask):
    """Write a COCO export of turned JPEGs with the polygon of a mask, in the size of the mask."""
    for split in ("train", "valid", "test"):
        folder = root / split
        folder.mkdir(parents=True)
        save_turned(folder / "a.jpg", shown, orientation)
        height, width = mask.shape
        image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
        lesion = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [outline(mask)]}
        content = {
            "images": [image],
            "categories": [{"id": 1, "name": "tumor"}],
            "annotations": [lesion],
        }
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return BrainTumorDataModule(**base(root, allow_leaks=True))


def shows_lesion(image, mask):
    """Return True if the mask lies on the bright disc; a polygon may leave out its border."""
    bright = image > 150
    return mask.sum() > 100 and bright[mask > 0].all() and (bright & (mask == 0)).sum() <= 45


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_coco_exif_square(orientation, tmp_path):
    data = brain(tmp_path / "data", scene(disc()), orientation, disc())
    data.prepare_data()
    assert shows_lesion(*sample(data, 0)) and data.cleaning[TURNED] == 3
    root = tmp_path / "table"
    root.mkdir()
    rows = []
    for n, split in enumerate(SPLITS):
        mask = disc(top=20 + n)
        save_turned(root / f"{n}.jpg", scene(mask, n), orientation)
        Image.fromarray(mask * 255).save(root / f"m{n}.png")
        cell = f"m{n}.png" if n % 2 else encode_rle(mask[..., None])
        rows.append({"id": str(n), "image": f"{n}.jpg", "split": split, "mask": cell})
    data = table(root, rows)
    data.prepare_data()
    for n in range(4):
        image, mask = sample(data, n)
        assert np.array_equal(mask, disc(top=20 + n)) and np.array_equal(image > 150, mask > 0)
    assert data.cleaning[TURNED] == 4


@pytest.mark.parametrize("annotated", ["shown", "stored"])
@pytest.mark.parametrize("orientation", [6, 8])
def test_coco_exif(orientation, annotated, tmp_path):
    """An annotation of the shown size is on the shown image, one of the stored size is on that."""
    mask = disc(48, 64) if annotated == "shown" else disc(64, 48, left=30)

    def shown(seed):
        """Return what viewers show of an image whose annotated orientation is that of the mask."""
        turns = {"shown": 0, "stored": 1 if orientation == 8 else -1}[annotated]
        return np.ascontiguousarray(np.rot90(scene(mask, seed), turns))

    reason = TURNED if annotated == "shown" else AS_STORED
    data = brain(tmp_path / "data", shown(0), orientation, mask)
    data.prepare_data()
    assert shows_lesion(*sample(data, 0)) and data.cleaning[reason] == 3
    assert data.table.read_image_size(0) == mask.shape

    root = tmp_path / "table"
    root.mkdir()
    Image.fromarray(mask * 255).save(root / "m.png")
    np.save(root / "m.npy", mask)
    cells = [encode_rle(mask[..., None]), "m.png", "m.npy", ["m.png", "m.npy"]]
    rows = []
    for n, split in enumerate(SPLITS):
        save_turned(root / f"{n}.jpg", shown(n), orientation)
        rows.append({"id": str(n), "image": f"{n}.jpg", "split": split, "mask": cells[n]})
    data = table(root, rows)
    data.prepare_data()
    for n in range(4):
        image, on_canvas = sample(data, n)
        assert np.array_equal(image > 150, on_canvas > 0) and on_canvas.sum() == mask.sum()
    assert data.cleaning[reason] == 4
    assert check_dataset(table(root, rows))["problems"] == {}


def test_exif_of_a_tiff_and_of_a_mask(tmp_path):
    """Pillow turns a TIFF itself; it is turned once, and its stored pixels can be had too."""
    stored = scene(disc(48, 64))
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={274: 6})
    Image.fromarray(stored.astype(np.uint16) * 256).save(tmp_path / "b.tif", tiffinfo={274: 6})
    for name in "ab":
        path = tmp_path / f"{name}.tif"
        shown = DEFAULT_READER.read(path, 1)
        assert shown.turned and shown.pixels.shape[:2] == DEFAULT_READER.read_size(path) == (64, 48)
        kept = DEFAULT_READER.read(path, 1, annotated_size=lambda: (48, 64))
        assert kept.kept_as_stored and DEFAULT_READER.read_size(path, (48, 64)) == (48, 64)
        assert np.array_equal(np.rot90(kept.pixels, -1), shown.pixels)
    assert np.array_equal(read_image(tmp_path / "a.tif", 1)[..., 0], np.rot90(stored, -1))


def tissue(brightest, side=SIDE):
    """Return 16 bits of tissue at 1000 to 1200, one pixel of which may be brighter."""
    values = np.random.default_rng(brightest).integers(1000, 1200, (side, side)).astype(np.uint16)
    values[disc(side, side) > 0] = 1200
    values[3, 3] = brightest
    return values


def test_px_16_scale(tmp_path):
    images = [tissue(brightest) for brightest in (1200, 4000, 65535, 1201)]
    data = files(tmp_path / "data", images)
    data.prepare_data()
    low, high = data.display_window()
    expected = np.percentile(np.concatenate(images[:2]), [0.5, 99.5])
    assert [low, high] == pytest.approx(expected, abs=1)
    grays = [np.median(sample(data, n)[0][disc() > 0]) for n in range(4)]
    assert grays == [round((1200 - low) / (high - low) * 255)] * 4 and grays[0] > 240
    for n, values in enumerate(images):
        by_hand = np.rint(((values - low) / (high - low)).clip(0, 1) * 255)
        assert np.array_equal(sample(data, n)[0], by_hand)
    assert data.cache.images.dtype == np.uint16 and data.cleaning[BLANK_REASON] == 0

    export_dataset(files(tmp_path / "data", images), tmp_path / "out", None)
    for n, path in enumerate(sorted((tmp_path / "out/images").iterdir())):
        assert np.array_equal(np.asarray(Image.open(path)), sample(data, n)[0])


def test_px_16_scale_with_a_window_of_the_user(tmp_path):
    data = files(
        tmp_path / "data", [tissue(n) for n in (1200, 4000, 65535, 1201)], window=[0, 2400]
    )
    data.prepare_data()
    assert {int(np.median(sample(data, n)[0][disc() > 0])) for n in range(4)} == {128}
    assert data.state_dict()["window"] == {"range": [0.0, 2400.0], "given": True}
    with pytest.raises(ManifestError, match=r"nearly one gray value.*datamodule\.window"):
        files(tmp_path / "data", [tissue(1200)] * 4, window=[0, 1], allow_leaks=True).prepare_data()


@pytest.mark.parametrize("window", [[5, 5], [9, 2], [1], [0, float("nan")], "none", [0, "x"], 7])
def test_a_window_that_is_none_is_refused(window, tmp_path):
    with pytest.raises(Exception, match=r"window.*is not allowed; it must be .*\[low,high\]"):
        TableDataModule(**base(tmp_path, window=window))


def test_px_depths_are_exact_up_to_16_bits(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for values in (ramp, ramp[3:200], ramp.view(np.int16), ramp[:16] * np.uint16(1) + 5000):
        levels, meaning = encode_levels(values)
        assert np.array_equal(meaning.values(levels), values)
    wide = np.array([[-1e6, 0, 2e6]], np.float32)
    levels, meaning = encode_levels(wide)
    assert np.abs(meaning.values(levels) - wide).max() <= 3e6 / 65534
    Image.fromarray(np.array([[0, 4_000_000_000]], np.uint32).view(np.int32)).save(
        tmp_path / "a.tif"
    )
    signed, unsigned = (b"\x53\x01\x03\x00\x01\x00\x00\x00" + kind for kind in (b"\x02", b"\x01"))
    stored = (tmp_path / "a.tif").read_bytes()
    assert signed in stored  # tag 339, SampleFormat
    (tmp_path / "a.tif").write_bytes(stored.replace(signed, unsigned))
    found = DEFAULT_READER.read(tmp_path / "a.tif", 1)
    assert found.levels.values(found.pixels).max() == pytest.approx(4e9, rel=1e-4)


def test_a_mixed_data_set_windows_only_its_deep_images(tmp_path):
    images = [scene(disc(), 1), tissue(1200), scene(disc(), 2), tissue(4000)]
    data = files(tmp_path / "data", images)
    data.prepare_data()
    assert data.cache.deep.tolist() == [False, True, False, True]
    assert all(np.array_equal(sample(data, n)[0], images[n]) for n in (0, 2))
    only_8_bit = files(tmp_path / "gray", [scene(disc(), n) for n in range(4)])
    only_8_bit.prepare_data()
    assert only_8_bit.cache.images.dtype == np.uint8 and only_8_bit.display_window() is None
    assert not list(only_8_bit.cache.folder.glob("value_*")) and only_8_bit.state_dict() == {}


def test_deep_images_without_a_deep_training_image_are_refused(tmp_path):
    images = [scene(disc(), 1), scene(disc(), 2), scene(disc(), 3), tissue(1200)]
    with pytest.raises(ManifestError, match=r"3\.png, and no training.*datamodule\.window=\[low"):
        files(tmp_path / "data", images).prepare_data()


def test_white_is_zero(tmp_path):
    values = tissue(1200)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    by_hand = 255 - np.rint((values - 1000.0) * 255 / 200)
    assert np.abs(read_image(tmp_path / "a.tif", 1)[..., 0] - by_hand).max() <= 1


def test_deep_colors_keep_their_depth(tmp_path):
    color = np.stack([tissue(1200), tissue(1200) // 2, tissue(1200) // 3], -1)
    cv2.imwrite(str(tmp_path / "a.png"), color[..., ::-1])
    found = DEFAULT_READER.read(tmp_path / "a.png", 3)
    assert np.array_equal(found.levels.values(found.pixels), color)


def test_px_float_nan(tmp_path):
    values = scene(disc()).astype(np.float32)
    values[7, 9] = np.nan
    with pytest.raises(ContentError, match=r"1\.tif holds 1 pixel that is NaN or infinite"):
        images = [scene(disc(), n).astype(np.float32) for n in range(4)]
        files(tmp_path / "data", [images[0], values, *images[2:]], "tif").prepare_data()


@pytest.mark.parametrize("flat", [np.full((64, 64), 90, np.uint8), np.full((64, 64), 7, np.uint16)])
def test_px_flat(flat, tmp_path):
    images = [tissue(1200), tissue(1201), flat, tissue(1202)]
    data = files(tmp_path / "data", images)
    data.prepare_data()
    assert data.cleaning.as_dict()[BLANK_REASON] == {"count": 1, "examples": ["2"]}
    summary = check_dataset(files(tmp_path / "data", images))
    assert summary["cleaning"][BLANK_REASON] == {"count": 1, "examples": ["2"]}
    with pytest.raises(ManifestError, match="3 of 4 images show nearly one gray value"):
        files(tmp_path / "most", [tissue(1), flat, flat, flat], allow_leaks=True).prepare_data()


def test_px_huge(tmp_path):
    Image.new("1", (14_000, 14_000)).save(tmp_path / "a.png")
    said = r"a\.png has a header size above.*\(14000 x 14000\).*datamodule\.max_pixels=196000000"
    path = tmp_path / "a.png"
    for read in (lambda: read_image(path, 1), lambda: DEFAULT_READER.read_size(path)):
        with pytest.raises(ManifestError, match=said):
            read()
    assert ImageReader(max_pixels=196_000_000).read_size(path) == (14_000, 14_000)
    images = [scene(disc(), n) for n in range(4)]
    with pytest.raises(ManifestError, match=r"datamodule\.max_pixels=4096"):
        files(tmp_path / "data", images, max_pixels=4095).prepare_data()
    files(tmp_path / "data", images, max_pixels=4096).prepare_data()


def test_modes_are_read_as_pillow_shows_them(tmp_path):
    color = np.stack([scene(disc()), scene(disc(), 1), scene(disc(), 2)], -1)
    rgb = Image.fromarray(color)
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    opaque = rgb.convert("RGBA")
    gray = rgb.convert("L")
    cases = {
        "rgb.png": (rgb, rgb),
        "cmyk.tif": (rgb.convert("CMYK"), rgb.convert("CMYK").convert("RGB")),
        "lab.tif": (ImageCms.applyTransform(rgb, lab), rgb),
        "palette.png": (rgb.quantize(64), rgb.quantize(64).convert("RGB")),
        "alpha.png": (opaque, rgb),
        "la.png": (gray.convert("LA"), gray.convert("RGB")),
        "bits.png": (gray.convert("1"), gray.convert("1").convert("RGB")),
        "ycc.tif": (rgb.convert("YCbCr"), rgb.convert("YCbCr").convert("RGB")),
    }
    for name, (image, shown) in cases.items():
        image.save(tmp_path / name)
        found = DEFAULT_READER.read(tmp_path / name, 3)
        # LAB in 8 bits is rounded
        limit = 12 if name == "lab.tif" else 1
        assert np.abs(found.pixels.astype(int) - np.asarray(shown)).max() <= limit, name
        assert not found.transparent
        one = read_image(tmp_path / name, 1)[..., 0].astype(int)
        assert np.abs(one - np.asarray(shown.convert("L"))).max() <= limit, name


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_black_and_are_counted(mode, tmp_path):
    images = [scene(disc(), n) for n in range(4)]
    data = files(tmp_path / "data", images)
    alpha = np.where(disc(top=45) > 0, 0, 255).astype(np.uint8)
    image = Image.fromarray(images[1]).convert("LA" if mode == "LA" else "RGBA")
    image.putalpha(Image.fromarray(alpha))
    image = image.quantize(256) if mode == "P" else image
    image.save(tmp_path / "data/1.png")
    again = np.asarray(image.convert("RGBA"))  # a palette rounds colors
    opaque = np.asarray(image.convert("RGBA").convert("L"))[alpha > 0]
    assert (again[alpha > 0, 3] == 255).all()
    data.prepare_data()
    shown = sample(data, 1)[0]
    assert (shown[alpha == 0] == 0).all() and data.cleaning[
        "image with transparent pixels: placed on black"
    ] == 1
    assert np.array_equal(shown[alpha > 0], opaque)


def film(path, stored, bits=12, syntax=ExplicitVRLittleEndian, **elements):
    """Write a gray DICOM."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("dtype", "value", "limit"),
    [(np.int16, -2000, None), (np.uint16, 65535, None), (np.int16, -2000, -1990)],
)
def test_dcm_padding(dtype, value, limit, photometric, tmp_path):
    shown = (np.linspace(0, 4095, SIDE * SIDE).reshape(SIDE, SIDE)).astype(dtype)
    stored = shown.copy()
    stored[:5] = value
    more = {"PixelPaddingValue": value}
    if limit is not None:
        stored[3:5], more["PixelPaddingRangeLimit"] = limit, limit
    more |= {"PhotometricInterpretation": photometric}
    path = film(tmp_path / "a.dcm", stored, 12 if dtype == np.uint16 else 16, **more)
    gray = read_image(path, 1)[..., 0].astype(float)
    inside = shown[5:].astype(float)
    by_hand = (inside - inside.min()) / (4095 - inside.min()) * 255
    by_hand = 255 - by_hand if photometric == "MONOCHROME1" else by_hand
    assert (gray[:5] == 0).all() and np.abs(gray[5:] - by_hand).max() <= 0.5
    assert gray[5:].min() == 0 and gray[5:].max() == 255


def test_dcm_padding_in_8_bits_and_behind_a_window(tmp_path):
    stored = scene(disc()).copy()
    stored[:5] = 0
    more = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    for window in ({}, {"WindowCenter": 128, "WindowWidth": 256}):
        gray = read_image(film(tmp_path / "a.dcm", stored, 8, **more, **window), 1)[..., 0]
        assert (gray[:5] == 0).all() and np.array_equal(gray[5:], 255 - stored[5:])


def test_dcm_windows(tmp_path):
    """The file's own window is used, unless the data set has one for the rescaled values."""
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for n, split in enumerate(SPLITS):
        own = {} if n % 2 else {"WindowCenter": 100 * n + 500, "WindowWidth": 100}
        values = tissue(1200 + n)
        film(root / f"{n}.dcm", values, 16, RescaleSlope=2, RescaleIntercept=-1000, **own)
        rows.append({"id": str(n), "image": f"{n}.dcm", "split": split})
        rows[-1]["mask"] = encode_rle(disc()[..., None])
    data = table(root, rows)
    data.prepare_data()
    assert data.cache.deep.tolist() == [False, True, False, True]
    low, high = data.display_window()  # of the only training image without a window of its own
    expected = np.percentile(tissue(1201) * 2.0 - 1000, [0.5, 99.5])
    assert [low, high] == pytest.approx(expected, abs=2)
    given = table(root, rows, window=[1000, 1400])
    given.prepare_data()
    for n in range(4):
        by_hand = ((tissue(1200 + n) * 2.0 - 1000 - 1000) / 400).clip(0, 1) * 255
        assert np.abs(sample(given, n)[0] - by_hand).max() <= 0.5


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": "NaN", "WindowWidth": "100"},
        {"WindowCenter": "50", "WindowWidth": "inf"},
        {"WindowCenter": "50", "WindowWidth": "-100"},
        {"RescaleSlope": "NaN", "RescaleIntercept": "0"},
        {"RescaleSlope": "1", "RescaleIntercept": "inf"},
    ],
)
def test_dcm_window_nan(elements, tmp_path):
    path = film(tmp_path / "a.dcm", tissue(1200), 16, **elements)
    for reader in (DEFAULT_READER, ImageReader(ignore_dicom_windows=True)):
        with pytest.raises(ContentError, match=r"a\.dcm has .*correct or delete that element"):
            reader.read(path, 1)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_dcm_bare(syntax, tmp_path):
    whole = film(tmp_path / "whole.dcm", tissue(1200), 16, syntax)
    dataset = dcmread(whole)
    implicit = syntax == ImplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    for name in ("bare.dcm", "IM00001"):
        dataset.save_as(tmp_path / name, implicit_vr=implicit, little_endian=True)
        assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
        assert np.array_equal(read_image(tmp_path / name, 1), read_image(whole, 1))
    assert [path.name for path in image_files(tmp_path)] == ["IM00001", "bare.dcm", "whole.dcm"]
    (tmp_path / "text.dcm").write_bytes(b"\x08\x00 not a DICOM, but long enough" * 9)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "bare.dcm").read_bytes()[:300])
    for name in ("text.dcm", "cut.dcm"):
        with pytest.raises(ManifestError, match=name):
            read_image(tmp_path / name, 1)


def test_dcm_no_suffix(tmp_path):
    names = ("IM00001", "1.2.840.113.7", "scan.dicom", "a/film.dcm", "a/b.IMA", "c.png", "d.webp")
    film_bytes = film(tmp_path / "x.dcm", tissue(1200), 16).read_bytes()
    root = tmp_path / "data"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name[-3:] in ("png", "ebp"):
            Image.fromarray(scene(disc())).save(root / name)
        else:
            (root / name).write_bytes(film_bytes)
    (root / "notes.txt").write_text("no image")
    report = dcmread(get_testdata_file("rtplan.dcm", download=False))
    report.save_as(root / "DICOMDIR")
    assert {path.relative_to(root).as_posix() for path in image_files(root)} == set(names)
    ids = FolderDataModule(classes=["lesion"], **base(root)).table.rows["id"].tolist()
    assert sorted(ids) == ["1.2.840.113.7", "IM00001", "b", "c", "d", "film", "scan"]


CODECS = {
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_RLE.dcm": "MR_small.dcm",
}


@pytest.mark.parametrize("name", CODECS)
def test_dcm_codec_lossless(name):
    twin, plain = (
        read_image(Path(get_testdata_file(each, download=False)), 1)
        for each in (name, CODECS[name])
    )
    assert np.array_equal(twin, plain)


def test_dcm_codec():
    """JPEG Extended of 12 bits has the values that other decoders find; JPEG-LS has its range."""
    reader = ImageReader(ignore_dicom_windows=True)
    path = Path(get_testdata_file("JPGExtended.dcm", download=False))
    found = reader.read(path, 1)
    values = found.levels.values(found.pixels)[..., 0]
    assert values.shape == (1024, 256) and (values[420, 140], values[230, 120]) == (244, 95)
    for name, highest in (("JPEGLSNearLossless_08.dcm", 255), ("JPEGLSNearLossless_16.dcm", 65535)):
        found = reader.read(Path(get_testdata_file(name, download=False)), 1)
        assert found.levels.values(found.pixels).max() == highest


def test_dcm_real_padding():
    """The padding -2000 of pydicom's CT does not count, and is black."""
    path = Path(get_testdata_file("693_J2KI.dcm", download=False))
    stored, found = dcmread(path).pixel_array, ImageReader(ignore_dicom_windows=True).read(path, 1)
    padding = stored == -2000
    assert padding.any() and (found.to_uint8(None)[padding] == 0).all()
    assert found.levels.value_range(found.pixels)[0] == stored[~padding].min() - 1024 * (
        dcmread(path).RescaleIntercept == -1024
    )


def junk(folder):
    """Write what macOS, Windows and Jupyter leave in a folder."""
    for name in ("._x.jpeg", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x00\x05\x16\x07 junk")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "._b.jpeg").write_bytes(b"\x00\x05\x16\x07")
        shutil.copy(folder / "._a.png", folder / name / "c.png")


def test_folder_junk(tmp_path, export, radiographs, bone_scans, thorax):
    root = tmp_path / "any"
    root.mkdir()
    Image.fromarray(scene(disc())).save(root / "a.png")
    junk(root)
    assert [path.name for path in image_files(root)] == ["a.png"]
    data = FolderDataModule(classes=["lesion"], **base(root))
    data.prepare_data()
    assert data.table.rows["id"].tolist() == ["a"] and not data.unreadable

    from datamodules.pneumothorax import PneumothoraxDataModule

    for name, source, make in (
        ("brain", export, BrainTumorDataModule),
        ("chest", radiographs, ChestXrayDataModule),
        ("pnx", thorax, PneumothoraxDataModule),
    ):
        shutil.copytree(source, tmp_path / name)
        clean = make(**base(tmp_path / name)).manifest()
        before = make(**base(tmp_path / name))
        before.manifest()
        for folder in [tmp_path / name, *(tmp_path / name).rglob("*")]:
            if folder.is_dir():
                junk(folder)
        if name == "pnx":
            (tmp_path / name / "._train.csv").write_bytes(b"\x00\x05")
        data = make(**base(tmp_path / name))
        assert data.manifest().rows["id"].tolist() == clean.rows["id"].tolist()
        junk_counts = {"file that is not an image: left out"}
        counts = [each.cleaning.as_dict() for each in (data, before)]
        assert all(
            value == counts[1].get(reason)
            for reason, value in counts[0].items()
            if reason not in junk_counts
        )

    shutil.copytree(bone_scans, tmp_path / "bones")
    clean = build_index(tmp_path / "bones", "refuse", CleaningReport())
    for folder in [tmp_path / "bones", *(tmp_path / "bones").rglob("*")]:
        if folder.is_dir():
            junk(folder)
    assert build_index(tmp_path / "bones", "refuse", CleaningReport()).equals(clean)


def test_frames(tmp_path):
    pages = [scene(disc(), n) for n in range(3)]
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    film(tmp_path / "a.dcm", np.stack(pages), 8, NumberOfFrames=3)
    Image.fromarray(pages[2]).save(tmp_path / "one.png")
    for name in ("a.tif", "a.gif", "a.dcm"):
        with pytest.raises(ManifestError, match=rf"{name} holds 3 frames.*datamodule\.frame=0"):
            read_image(tmp_path / name, 1)
        with pytest.raises(ManifestError, match=r"datamodule\.frame=3 does not exist.*=2 or less"):
            ImageReader(frame=3).read(tmp_path / name, 1)
        found = ImageReader(frame=2).read(tmp_path / name, 1).pixels[..., 0]
        assert np.abs(found.astype(int) - pages[2]).max() <= (0 if name != "a.gif" else 3)
    assert np.array_equal(
        ImageReader(frame=0).read(tmp_path / "one.png", 1).pixels[..., 0], pages[2]
    )
    with pytest.raises(ManifestError, match=r"one\.png holds 1 frame, so datamodule\.frame=1"):
        ImageReader(frame=1).read(tmp_path / "one.png", 1)


def test_unreadable_file_ends_a_fit_but_not_a_prediction(tmp_path):
    data = files(tmp_path / "data", [scene(disc(), n) for n in range(4)])
    (tmp_path / "data/2.png").write_bytes(b"broken")
    with pytest.raises(ManifestError, match=r"2\.png is not an image that can be read"):
        data.prepare_data()
    folder = FolderDataModule(classes=["lesion"], **base(tmp_path / "data"))
    folder.prepare_data()
    assert list(folder.unreadable) == ["2"] and "2.png is not an image" in folder.unreadable["2"]
    ids = [id for batch in folder.predict_dataloader() for id in batch["id"]]
    assert ids == ["0", "1", "3"]
    built = folder.cache.folder.stat().st_ino  # it is used again while nothing has changed
    folder = FolderDataModule(classes=["lesion"], **base(tmp_path / "data"))
    folder.prepare_data()
    assert list(folder.unreadable) == ["2"] and folder.cache.folder.stat().st_ino == built
    Image.fromarray(scene(disc(), 2)).save(tmp_path / "data/2.png")
    again = FolderDataModule(classes=["lesion"], **base(tmp_path / "data"))
    again.prepare_data()
    assert not again.unreadable
    for path in (tmp_path / "data").glob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(ManifestError, match=r"0\.png is not an image"):
        FolderDataModule(classes=["lesion"], **base(tmp_path / "data")).prepare_data()


def test_quantiles_of_an_image(tmp_path):
    Image.fromarray(tissue(4000)).save(tmp_path / "a.png")
    found = summarize_values(DEFAULT_READER.read(tmp_path / "a.png", 1))
    at = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    by_hand = np.quantile(tissue(4000), at, method="inverted_cdf")
    assert found.pixels == SIDE * SIDE and np.array_equal(found.quantiles, by_hand)
    assert torch.equal(torch.from_numpy(found.quantiles), torch.from_numpy(by_hand).double())
