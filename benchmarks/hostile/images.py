"""Hostile images, DICOMs, masks and volumes."""

import gzip
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.pixels  # noqa: F401  (imported once for all cases)
import SimpleITK  # noqa: F401
import sklearn.model_selection  # noqa: F401
from PIL import Image

from benchmarks.hostile.annotations import own_data, prepared
from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import Template, small_items
from datamodules.folder import FolderDataModule
from datamodules.formats.image_io import ImageReader
from tests.factories.layouts import dicom_slice, image_mask_folders, save, save_volume

KINDS = ("images", "DICOM", "masks", "volumes")
READ = {  # what must be read, and not only be refused in a sentence
    *("a GIF", "a BMP", "a TIFF", "a CMYK JPEG", "a PNG of 1 bit", "a PNG of a palette"),
    *("a PNG of floats as TIFF", "an orientation of 99", "whole", "deflated, small"),
}
GHOSTSCRIPT_MARK = "/tmp/hostile-ghostscript-was-run"


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of images and volumes."""
    for name, (data, right) in _pictures().items():
        yield _reader_case(name, data, right)
    yield from _files()
    yield from _dicoms()
    yield from _masks()
    yield from _volumes()


def _ramp(height: int = 48, width: int = 40) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint16).reshape(height, width).astype(np.uint8)


def _saved(image: Image.Image, form: str, **more: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **more)
    return data.getvalue()


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG of these chunks."""
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = zlib.crc32(kind + data)
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
    return made


def _header(width: int, height: int, depth: int = 8, color: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)


def _reads_ramp(found: Any) -> bool:
    return bool(np.array_equal(found.pixels[..., 0], _ramp()))


def _reads(found: Any) -> bool:
    return found.pixels.shape == (48, 40, 1)


def _pictures() -> dict[str, tuple[bytes, Callable[[Any], bool] | None]]:
    """Return name -> content of a file called x.jpg, and what is right about reading it."""
    ramp = Image.fromarray(_ramp())
    rows = b"".join(b"\0" + row.tobytes() for row in _ramp())
    pixels, end = (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    bomb = zlib.compress(bytes(2**27), 1)
    text = (b"zTXt", b"Comment\0\0" + bomb)
    profile = (b"iCCP", b"icc\0\0" + bomb)
    itxt = (b"iTXt", b"Comment\0\1\0\0\0" + bomb)
    postscript = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 48\n"
        b"(" + GHOSTSCRIPT_MARK.encode() + b") (w) file closefile\nshowpage\n"
    )
    animation = [Image.fromarray(np.roll(_ramp(), n)) for n in range(3)]
    tiff = _saved(ramp, "TIFF")
    return {
        "an EPS": (postscript, None),
        "an EPS of Pillow": (_saved(ramp, "EPS"), None),
        "a PDF": (_saved(ramp, "PDF"), None),
        "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="48"/>', None),
        "a WMF": (b"\xd7\xcd\xc6\x9a" + bytes(40), None),
        "an EMF": (b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(40), None),
        "an ICNS": (b"icns" + struct.pack(">I", 8), None),
        "a PSD": (b"8BPS\0\1" + bytes(200), None),
        "an FLI": (struct.pack("<IH", 200, 0xAF11) + bytes(200), None),
        "a TGA": (_saved(ramp, "TGA"), None),
        "an HTML page": (b"<!DOCTYPE html><html></html>", None),
        "a program": (b"\x7fELF" + bytes(2000), None),
        "one byte": (b"\xff", None),
        "empty": (b"", None),
        "random bytes": (np.random.default_rng(0).bytes(5000), None),
        "a GIF": (_saved(ramp, "GIF"), _reads_ramp),
        "an animated GIF": (
            _saved(animation[0], "GIF", save_all=True, append_images=animation[1:]),
            None,
        ),
        "an animated PNG": (
            _saved(animation[0], "PNG", save_all=True, append_images=animation[1:]),
            None,
        ),
        "an animated WebP": (
            _saved(animation[0], "WEBP", save_all=True, append_images=animation[1:]),
            None,
        ),
        "a TIFF of three pages": (
            _saved(animation[0], "TIFF", save_all=True, append_images=animation[1:]),
            None,
        ),
        "a BMP": (_saved(ramp, "BMP"), _reads_ramp),
        "a TIFF": (tiff, _reads_ramp),
        "a TIFF cut off": (tiff[: len(tiff) // 2], None),
        "a TIFF whose directory is itself": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", None),
        "a TIFF of 2**31 entries": (b"II*\0\x08\0\0\0\xff\xff" + bytes(20), None),
        "a BigTIFF of nothing": (b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**62), None),
        "a CMYK JPEG": (_saved(ramp.convert("CMYK"), "JPEG"), _reads),
        "a YCCK JPEG cut off": (_saved(ramp.convert("CMYK"), "JPEG")[:-200], None),
        "a PNG of 1 bit": (_saved(ramp.convert("1"), "PNG"), _reads),
        "a PNG of a palette": (_saved(ramp.convert("P"), "PNG"), _reads),
        "a PNG of floats as TIFF": (
            _saved(Image.fromarray(_ramp().astype(np.float32)), "TIFF"),
            _reads,
        ),
        "a TIFF of NaN": (
            _saved(Image.fromarray(np.full((48, 40), np.nan, np.float32)), "TIFF"),
            None,
        ),
        "a PNG of 20,000 x 20,000": (_png([_header(20_000, 20_000), pixels, end]), None),
        "a PNG of 2**31 x 2**31": (_png([_header(2**31 - 1, 2**31 - 1), pixels, end]), None),
        "a PNG of 0 x 0": (_png([_header(0, 0), pixels, end]), None),
        "a PNG of color type 77": (_png([_header(40, 48, 8, 77), pixels, end]), None),
        "a PNG without pixels": (_png([_header(40, 48), end]), None),
        "a PNG of other sizes": (_png([_header(40, 90), pixels, end]), None),
        "a PNG whose pixels are a bomb": (_png([_header(40, 48), (b"IDAT", bomb), end]), _reads),
        "a PNG with a wrong checksum": (
            _png([_header(40, 48), pixels, end]).replace(pixels[1][:20], pixels[1][:19] + b"!"),
            None,
        ),
        "a zTXt bomb": (_png([_header(40, 48), text, pixels, end]), _reads_ramp),
        "zTXt bombs, 200": (_png([_header(40, 48), *[text] * 200, pixels, end]), _reads_ramp),
        "zTXt bombs behind the pixels": (
            _png([_header(40, 48), pixels, *[text] * 200, end]),
            _reads_ramp,
        ),
        "an iTXt bomb": (_png([_header(40, 48), itxt, pixels, end]), _reads_ramp),
        "a bomb for a color profile": (_png([_header(40, 48), profile, pixels, end]), _reads_ramp),
        "an orientation of 99": (_exif(ramp, 99), _reads),
        "a JPEG of 65,500 x 65,500": (_big_jpeg(), None),
        "a PPM of 1e9 pixels": (b"P5 100000 100000 255\n" + bytes(100), None),
        "a PPM of text": (b"P2 40 48 255\n" + b"999999999999999999999 " * 2000, None),
    }


def _exif(image: Image.Image, orientation: Any) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return _saved(image, "JPEG", exif=exif)


def _big_jpeg() -> bytes:
    data = bytearray(_saved(Image.fromarray(_ramp()), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def _reader_case(name: str, data: bytes, right: Callable[[Any], bool] | None) -> Case:
    def prepare(folder: Path) -> Action:
        path = folder / "data/x.jpg"
        path.parent.mkdir()
        path.write_bytes(data)
        Path(GHOSTSCRIPT_MARK).unlink(missing_ok=True)

        def read() -> Any:
            reader = ImageReader()
            assert not Path(GHOSTSCRIPT_MARK).exists()
            reader.read_size(path)
            found = reader.read(path, 1)
            assert not Path(GHOSTSCRIPT_MARK).exists(), "a program was run"
            return found

        return read

    must = name in READ
    return Case("images", f"x.jpg is {name}", prepare, ("x.jpg",), right, may_refuse=not must)


def _files() -> Iterator[Case]:
    """Yield what is no file, in a folder to predict on and as a file that a user names."""

    def fifo(path: Path) -> None:
        os.mkfifo(path)

    def device(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def a_socket(path: Path) -> None:
        os.chdir(path.parent)
        socket.socket(socket.AF_UNIX).bind(path.name)

    def folder_of_its_name(path: Path) -> None:
        path.mkdir()

    def broken_link(path: Path) -> None:
        path.symlink_to("/nonexistent.png")

    def link_to_itself(path: Path) -> None:
        path.symlink_to(path.name)

    def sparse(path: Path) -> None:
        path.write_bytes(_saved(Image.fromarray(_ramp()), "PNG"))
        os.truncate(path, 3 * 2**30)

    for make in (fifo, device, a_socket, folder_of_its_name, broken_link, link_to_itself, sparse):
        for suffix in (".png", ".dcm", ""):

            def prepare(
                folder: Path, make: Callable[[Path], None] = make, suffix: str = suffix
            ) -> Action:
                path = folder / f"data/x{suffix}"
                path.parent.mkdir()
                make(path)
                return lambda: ImageReader().read(path, 1)

            yield Case("images", f"x{suffix}: {make.__name__}", prepare, (f"x{suffix}",))

        def prepare_folder(folder: Path, make: Callable[[Path], None] = make) -> Action:
            root = folder / "data"
            for item in small_items():
                save(root / f"{item.name}.png", item.image)
            make(root / "x.png")
            base = {"cache_dir": str(folder / "cache"), "image_size": 32, "num_workers": 0}
            made = FolderDataModule(root=str(root), classes=["lesion"], **base)
            return lambda: prepared(made)

        yield Case(
            "images",
            f"a folder to predict on: {make.__name__}",
            prepare_folder,
            ("x.png",),
            lambda data: len(data.table) >= 24,
        )

    def unreadable(folder: Path) -> Action:
        path = folder / "data/x.png"
        save(path, _ramp())

        def read() -> Any:
            def refuse(*_: Any, **__: Any) -> None:
                raise PermissionError(13, "Permission denied", str(path))

            Path.open = refuse  # type: ignore[method-assign, assignment]
            Path.read_bytes = refuse  # type: ignore[method-assign, assignment]
            return ImageReader().read(path, 1)

        return read

    yield Case("images", "a file of mode 000", unreadable, ("x.png",))


def _dicom(**changes: Any) -> Any:
    made = dicom_slice(small_items()[0], 0, 0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _written(dataset: Any) -> bytes:
    data = io.BytesIO()
    dataset.save_as(data, enforce_file_format=True)
    return data.getvalue()


def _encapsulated(frame: bytes, syntax: str, **changes: Any) -> bytes:
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    made = _dicom(**changes)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    made["PixelData"].is_undefined_length = True
    return _written(made)


def _deflated(extra: int) -> bytes:
    """Return a deflated DICOM with so many zeros in a private element."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    made = _dicom()
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    block = made.private_block(0x7FE1, "bomb", create=True)
    block.add_new(1, "OB", bytes(extra))
    return _written(made)


def _dicoms() -> Iterator[Case]:
    jpeg = "1.2.840.10008.1.2.4.50"
    j2k = "1.2.840.10008.1.2.4.90"
    rle = "1.2.840.10008.1.2.5"
    small = _saved(Image.fromarray(_ramp()), "JPEG")

    def large() -> bytes:
        return _encapsulated(_saved(Image.new("L", (20_000, 20_000)), "JPEG"), jpeg)

    def wide() -> bytes:
        return _encapsulated(_saved(Image.new("L", (4_000, 4_000)), "JPEG2000"), j2k)

    plain = _written(_dicom())
    pixels = small_items()[0].image

    def reads(found: Any) -> bool:
        return bool(np.array_equal(found.pixels[..., 0], pixels))

    contents: dict[str, tuple[Any, Any]] = {
        "whole": (plain, reads),
        "cut in the pixels": (plain[:-500], None),
        "cut in the header": (plain[:300], None),
        "cut in the meta": (plain[:140], None),
        "only a preamble": (bytes(128) + b"DICM", None),
        "a JPEG of 20,000 x 20,000 in 48 x 40": (large, None),
        "a JPEG 2000 of 4,000 x 4,000 in 48 x 40": (wide, None),
        "a JPEG of random bytes": (
            _encapsulated(np.random.default_rng(0).bytes(2000), jpeg),
            None,
        ),
        "a JPEG 2000 of random bytes": (
            _encapsulated(np.random.default_rng(0).bytes(2000), j2k),
            None,
        ),
        "RLE of random bytes": (_encapsulated(np.random.default_rng(0).bytes(2000), rle), None),
        "RLE of 2**32 segments": (_encapsulated(b"\xff" * 200, rle), None),
        "a JPEG of 1 bit": (_encapsulated(small[:600], jpeg), None),
        "deflated, 600 MB": (lambda: _deflated(600 * 2**20), None),
        "deflated, small": (_deflated(1000), reads),
        "rows and columns of 20,000": (_written(_dicom(Rows=20_000, Columns=20_000)), None),
        "rows and columns of 65,535": (_written(_dicom(Rows=65_535, Columns=65_535)), None),
        "rows of 9,000": (_written(_dicom(Rows=9_000, Columns=9_000)), None),
        "rows of 0": (_written(_dicom(Rows=0)), None),
        "2**31 frames": (_written(_dicom(NumberOfFrames=2**31 - 1)), None),
        "-1 frames": (_written(_dicom(NumberOfFrames=-1)), None),
        "BitsAllocated of 0": (_written(_dicom(BitsAllocated=0)), None),
        "BitsAllocated of 64": (_written(_dicom(BitsAllocated=64)), None),
        "BitsStored of 99": (_written(_dicom(BitsStored=99)), None),
        "7 samples": (_written(_dicom(SamplesPerPixel=7)), None),
        "a window of infinity": (_written(_windowed("inf", "1")), None),
        "a window of NaN": (_written(_windowed("nan", "1")), None),
        "a window of text": (_written(_dicom()).replace(b"MONOCHROME2 ", b"MONOCHROME9 "), None),
        "a slope of 1e38": (_written(_dicom(RescaleSlope=1e38, RescaleIntercept=1e38)), None),
        "an unknown transfer syntax": (
            plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
            None,
        ),
        "nested sequences, 3,000 deep": (_nested(3000), None),
    }
    for name, (data, right) in contents.items():

        def prepare(folder: Path, data: Any = data) -> Action:
            path = folder / "data/x.dcm"
            path.parent.mkdir()
            path.write_bytes(data() if callable(data) else data)

            def read() -> Any:
                ImageReader().read_size(path)
                return ImageReader().read(path, 1)

            return read

        if name in (
            "BitsStored of 99",
            "a slope of 1e38",
            "a window of text",
            "nested sequences, 3,000 deep",
        ):
            right = reads
        yield Case("DICOM", name, prepare, ("x.dcm",), right, may_refuse=name not in READ)


def _windowed(center: str, width: str) -> Any:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    made = _dicom()
    for tag, text in ((0x00281050, center), (0x00281051, width)):
        value = text.encode().ljust(len(text) + len(text) % 2)
        made._dict[Tag(tag)] = RawDataElement(Tag(tag), "DS", len(value), value, 0, False, True)
    return made


def _nested(depth: int) -> bytes:
    """Return a DICOM with sequences in sequences."""
    inner = b""
    tag = struct.pack("<HH", 0x0008, 0x1140)
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = tag + b"SQ\0\0" + struct.pack("<I", len(item)) + item
        if len(inner) > 2**30:
            break
    plain = _written(_dicom())
    place = plain.index(struct.pack("<HH", 0x0010, 0x0010))
    return plain[:place] + inner + plain[place:]


def _masks() -> Iterator[Case]:
    header = b"\x93NUMPY\1\0"

    def npy(text: str) -> bytes:
        padded = text.ljust(117) + "\n"
        return header + struct.pack("<H", len(padded)) + padded.encode()

    contents: dict[str, tuple[str, bytes]] = {
        "npy of 1e9 x 1e9": (
            ".npy",
            npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"),
        ),
        "npy of 9,000 x 9,000 without values": (
            ".npy",
            npy("{'descr': '<i8', 'fortran_order': False, 'shape': (9000, 9000), }"),
        ),
        "npy of objects": (
            ".npy",
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,2), }"),
        ),
        "npy of a negative shape": (
            ".npy",
            npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1, -1), }"),
        ),
        "npy of code": (".npy", npy("__import__('os').system('true')")),
        "npy of another version": (".npy", b"\x93NUMPY\x09\0" + bytes(200)),
        "npy of random bytes": (".npy", np.random.default_rng(0).bytes(400)),
        "png of text": (".png", b"abc"),
        "png of an EPS": (".png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 48\n"),
        "png of 20,000 x 20,000": (
            ".png",
            _png([_header(20_000, 20_000), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]),
        ),
        "png of another size": (".png", _saved(Image.new("L", (7, 7), 255), "PNG")),
        "png of noise": (
            ".png",
            _saved(
                Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)),
                "PNG",
            ),
        ),
        "png of two palette entries of one color": (".png", _twin_palette()),
        "empty": (".png", b""),
    }
    for name, (suffix, data) in contents.items():

        def prepare(folder: Path, suffix: str = suffix, data: bytes = data) -> Action:
            root = folder / "data"
            image_mask_folders(root, small_items(), ["lesion", "edema"])
            (root / "masks/case00.png").unlink()
            (root / f"masks/case00{suffix}").write_bytes(data)
            return lambda: prepared(own_data(folder))

        yield Case("masks", name, prepare, ("case00",))


def _twin_palette() -> bytes:
    picture = Image.fromarray(small_items()[0].labels).convert("P")
    picture.putdata(small_items()[0].labels.ravel().tolist())
    picture.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9])
    return _saved(picture, "PNG")


def _nifti(shape: tuple[int, ...], kind: int = 4, bits: int = 16, data: bytes = b"") -> bytes:
    """Return a NIfTI-1 of a shape."""
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, *[min(n, 32767) for n in dim])
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(4) + data


def _volumes() -> Iterator[Case]:
    whole = gzip.compress(_nifti((8, 9, 3), data=bytes(8 * 9 * 3 * 2)))
    contents: dict[str, tuple[str, Any]] = {
        "nii of 32,767 cubed": (".nii", _nifti((32767, 32767, 32767), data=bytes(2000))),
        "nii.gz of 32,767 cubed": (
            ".nii.gz",
            gzip.compress(_nifti((32767, 32767, 32767), data=bytes(2000))),
        ),
        "nii.gz of 1,500 x 1,500 x 300 zeros": (
            ".nii.gz",
            lambda: _zeros_gz((1500, 1500, 300)),
        ),
        "nii.gz of 1,200 cubed without values": (
            ".nii.gz",
            gzip.compress(_nifti((1200, 1200, 1200), data=bytes(2000))),
        ),
        "nii of negative sizes": (".nii", _nifti((-5, 9, 3), data=bytes(2000))),
        "nii of sizes of 0": (".nii", _nifti((0, 0, 0), data=bytes(2000))),
        "nii of colors": (".nii", _nifti((8, 9, 3), 128, 24, bytes(8 * 9 * 3 * 3))),
        "nii of complex numbers": (".nii", _nifti((8, 9, 3), 32, 64, bytes(8 * 9 * 3 * 8))),
        "nii of an unknown type": (".nii", _nifti((8, 9, 3), 9999, 16, bytes(2000))),
        "nii of NaN": (
            ".nii",
            _nifti((8, 9, 3), 16, 32, np.full(216, np.nan, np.float32).tobytes()),
        ),
        "nii cut off": (".nii", _nifti((8, 9, 3), data=bytes(100))),
        "nii.gz cut off": (".nii.gz", whole[:-20]),
        "nii.gz of random bytes": (".nii.gz", np.random.default_rng(0).bytes(2000)),
        "nii of text": (".nii", b"abc" * 500),
        "empty nii": (".nii", b""),
        "nrrd of 1e6 cubed": (
            ".nrrd",
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 1000000 1000000 1000000\n"
            b"encoding: raw\nendian: little\n\n" + bytes(100),
        ),
        "nrrd of 1,200 cubed, gzip": (
            ".nrrd",
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 1200 1200 1200\n"
            b"encoding: gzip\nendian: little\n\n" + gzip.compress(bytes(2000)),
        ),
        "nrrd that names /etc/passwd": (
            ".nhdr",
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 9 3\nencoding: raw\n"
            b"data file: /etc/passwd\n",
        ),
        "nrrd that names a pipe": (
            ".nhdr",
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 9 3\nencoding: raw\ndata file: pipe\n",
        ),
        "mha of 1e6 cubed": (
            ".mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 1000000 1000000 1000000\n"
            b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(100),
        ),
        "mhd that names /dev/zero": (
            ".mhd",
            b"ObjectType = Image\nNDims = 3\nDimSize = 8 9 3\nElementType = MET_UCHAR\n"
            b"ElementDataFile = /dev/zero\n",
        ),
        "mhd that names /etc/passwd": (
            ".mhd",
            b"ObjectType = Image\nNDims = 3\nDimSize = 8 9 3\nElementType = MET_UCHAR\n"
            b"ElementDataFile = /etc/passwd\n",
        ),
        "mhd of a file that is not there": (
            ".mhd",
            b"ObjectType = Image\nNDims = 3\nDimSize = 8 9 3\nElementType = MET_UCHAR\n"
            b"ElementDataFile = gone.raw\n",
        ),
    }
    for name, (suffix, data) in contents.items():

        def prepare(
            folder: Path, suffix: str = suffix, data: Any = data, name: str = name
        ) -> Action:
            root = folder / "data"
            values = np.random.default_rng(0).integers(0, 99, (3, 9, 8)).astype(np.int16)
            for n in range(12):
                save_volume(root / f"images/v{n}.nii.gz", values + n)
                save_volume(root / f"masks/v{n}.nii.gz", (values > 50).astype(np.uint8))
            (root / "images/v0.nii.gz").unlink()
            (root / f"images/v0{suffix}").write_bytes(data() if callable(data) else data)
            if "pipe" in name:
                os.mkfifo(root / "images/pipe")
            return lambda: prepared(own_data(folder))

        yield Case("volumes", name, prepare, ())


def _zeros_gz(shape: tuple[int, int, int]) -> bytes:
    """Return a compressed NIfTI that is as large as it says."""
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=1) as file:
        file.write(_nifti(shape))
        left = int(np.prod(shape)) * 2
        block = bytes(2**24)
        while left > 0:
            file.write(block[: min(left, len(block))])
            left -= len(block)
    return data.getvalue()
