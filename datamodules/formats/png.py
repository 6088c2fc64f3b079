"""Check that a PNG is whole: checksums of its chunks, and pixels for all rows that it announces.

Pillow shows missing rows as black and does not compare the checksums of pixels, so that a damaged
file would be trained on.
"""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
# rows and columns of the seven passes of an interlaced image: first one and step, down and across
ADAM7 = (
    *((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2)),
    (1, 2, 0, 1),
)
BLOCK = 2**20  # bytes that are unpacked at once


def find_png_damage(data: bytes) -> str:
    """Return what is wrong with the content of a PNG; empty if it is whole, or no PNG.

    Text and other chunks that no pixel depends on are not looked at, nor bytes after the end.
    """
    if not data.startswith(SIGNATURE):
        return ""
    place, expected, seen = len(SIGNATURE), 0, 0
    unpacker = zlib.decompressobj()
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = memoryview(data)[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IEND":
            break  # whatever follows is read by no decoder
        if place > len(data):
            return "it is cut off"
        if kind in (b"IHDR", b"PLTE", b"IDAT") and zlib.crc32(content, zlib.crc32(kind)) != (
            int.from_bytes(data[place - 4 : place], "big")
        ):
            return "a part of it differs from its checksum"
        if kind == b"IHDR":
            expected = _raw_size(bytes(content))
        elif kind == b"IDAT":
            try:
                seen += _unpacked_size(unpacker, content, expected - seen)
            except zlib.error as error:
                return f"its pixels cannot be unpacked ({error})"
    return (
        "" if seen >= expected else f"{expected - seen} of {expected} bytes of pixels are missing"
    )


def _unpacked_size(unpacker: "zlib._Decompress", content: memoryview, wanted: int) -> int:
    """Return how many bytes a chunk unpacks to, at most those that are wanted."""
    size, packed = 0, bytes(content)
    while packed and size < wanted and not unpacker.eof:
        size += len(unpacker.decompress(packed, min(BLOCK, wanted - size)))
        packed = unpacker.unconsumed_tail
    return size


def _raw_size(header: bytes) -> int:
    """Return the bytes of all rows with their filter bytes, of a header's size and depth."""
    if len(header) != 13:
        return 0
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * SAMPLES.get(color, 1)
    passes = ADAM7 if interlaced else ((0, 1, 0, 1),)
    total = 0
    for top, down, left, across in passes:
        rows, columns = -(-(height - top) // down), -(-(width - left) // across)
        if rows > 0 and columns > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
