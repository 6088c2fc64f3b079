"""A PNG is whole if its checksums fit and all announced rows are there."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.formats.image_io import read_image
from datamodules.formats.png import find_png_damage


def saved(image, **more):
    data = io.BytesIO()
    image.save(data, "PNG", **more)
    return data.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 48), (300, 200)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_whole_pngs_of_all_modes(mode, size):
    image = Image.new("L", size, 7).convert(mode) if mode != "I;16" else Image.new(mode, size, 700)
    assert find_png_damage(saved(image)) == ""
    assert find_png_damage(saved(image) + b"what no decoder reads") == ""


def interlaced(width, height):
    """Return an interlaced gray PNG, which neither Pillow nor OpenCV writes."""
    pixels = np.arange(width * height, dtype=np.uint32).reshape(height, width).astype(np.uint8)
    starts = [(0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0)]
    steps = [(8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1)]
    raw = b""
    for (top, left), (down, across) in zip(starts, steps, strict=True):
        for row in pixels[top::down, left::across]:
            raw += b"\0" + row.tobytes() if row.size else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
        made += struct.pack(">I", len(data)) + kind + data
        made += struct.pack(">I", zlib.crc32(kind + data))
    return made, pixels


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 17), (40, 48)])
def test_interlaced_pngs(size):
    data, pixels = interlaced(*size)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 0), pixels)
    assert find_png_damage(data) == ""


def test_damage_is_named_and_the_file_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)
    whole = saved(Image.fromarray(noise))
    place = whole.index(b"IDAT") + 100
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assert "checksum" in find_png_damage(flipped)
    assert find_png_damage(whole[: len(whole) // 2]) == "it is cut off"
    (tmp_path / "a.png").write_bytes(flipped)
    with pytest.raises(ManifestError, match=r"a\.png cannot be decoded \(damaged PNG: a part"):
        read_image(tmp_path / "a.png", 1)


def test_missing_rows_are_refused(tmp_path):
    raw = zlib.compress(bytes(41 * 40))  # 40 of 48 rows
    head = struct.pack(">IIBBBBB", 40, 48, 8, 0, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), (b"IDAT", raw), (b"IEND", b"")):
        made += struct.pack(">I", len(data)) + kind + data
        made += struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "a.png").write_bytes(made)
    with pytest.raises(ManifestError, match="328 of 1968 bytes of pixels are missing"):
        read_image(tmp_path / "a.png", 1)
