"""Files of one row per image, written and read with system calls that report every error.

A memory map would end the process without a word (SIGBUS) on a full disk, a failing disk or a file
that someone cuts short. The files are NumPy's `.npy`, and a CRC-32 of each row is kept beside them.
"""

import errno
import io
import os
import stat
import threading
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 2**22  # bytes that are written at once
_position = threading.Lock()  # of files, where a call cannot name it
_NO_ALLOCATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)


class DamagedFile(Exception):
    """A file of a cache does not hold what was written; the message says which one, and what."""


def checksum(data: Any, start: int = 0) -> int:
    """Return the CRC-32 of bytes or of a contiguous array."""
    return zlib.crc32(data, start)


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a `.npy` file, which its values follow."""
    header = io.BytesIO()
    about = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(map(int, shape)),
    }
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


def reserve(file: int, size: int) -> None:
    """Allocate the blocks of a new file, so that a full disk is noticed now.

    Where the file system cannot allocate, the file is filled with zeros.

    Raises:
        OSError: There is not enough space.
    """
    if not size:
        return
    try:
        os.posix_fallocate(file, 0, size)
    except (AttributeError, OSError) as error:  # macOS has no such function
        if isinstance(error, OSError) and error.errno not in _NO_ALLOCATION:
            raise
        zeros = bytes(min(CHUNK, size))
        for start in range(0, size, CHUNK):
            _write_all(file, memoryview(zeros)[: size - start], start)


def _write_all(file: int, data: Any, offset: int) -> None:
    view = memoryview(data)
    while view.nbytes:
        written = _write_at(file, view, offset)
        view, offset = view[written:], offset + written


def _write_at(file: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    with _position:  # Windows
        os.lseek(file, offset, os.SEEK_SET)
        return os.write(file, data)


def _read_at(file: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    with _position:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)


def _open(path: Path, flags: int) -> int:
    """Open a file; a FIFO in its place does not wait for a writer."""
    more = (getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))
    return os.open(path, flags | sum(more), 0o600)


class RowWriter:
    """Writer of `N x shape` values, whose space is allocated first; rows are zero until written.

    Args:
        path: A new file.
        dtype: Type of the values.
        shape: `N x shape`.

    Attributes:
        checksums: CRC-32 of each row, uint32 `N`.
        close: Function that closes the file, which is not needed any more.

    Raises:
        OSError: There is not enough space, here or in any method.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype, self._shape = np.dtype(dtype), tuple(map(int, shape))
        self.header = npy_header(self.dtype, self._shape)
        self._bytes = int(np.prod(self._shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self.size = len(self.header) + self._bytes * self._shape[0]
        self._file = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.close = weakref.finalize(self, os.close, self._file)
        reserve(self._file, self.size)
        _write_all(self._file, self.header, 0)
        self.checksums = np.full(self._shape[0], checksum(bytes(self._bytes)), np.uint32)

    def write(self, row: int, values: np.ndarray) -> None:
        """Write one row; safe in threads for different rows."""
        values = np.ascontiguousarray(values, self.dtype)
        if values.shape != self._shape[1:]:
            raise ValueError(f"a row has the shape {self._shape[1:]}, not {values.shape}")
        flat = values.reshape(-1).view(np.uint8)
        self.checksums[row] = checksum(flat)
        _write_all(self._file, flat, len(self.header) + row * self._bytes)

    def read(self, row: int) -> np.ndarray:
        """Return a row that was written."""
        data = _read_at(self._file, self._bytes, len(self.header) + row * self._bytes)
        return np.frombuffer(data, self.dtype).reshape(self._shape[1:])

    def finish(self) -> None:
        """Wait until the disk has everything, and close the file."""
        os.fsync(self._file)
        self.close()


class OpenFile:
    """A file that is read by position, and stays readable when its name is deleted.

    Processes that are forked share it.

    Args:
        path: The file.

    Raises:
        DamagedFile: It is missing, no regular file, or not readable.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            number = _open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise  # the file is not to blame
            raise DamagedFile(f"{self.name}: {error.strerror}") from error
        self._file = number
        weakref.finalize(self, os.close, number)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise DamagedFile(f"{self.name} is not a file")

    @property
    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._file).st_size

    def read(self, start: int, size: int, expected: int | None, what: str = "") -> bytes:
        """Return some of its bytes.

        Args:
            start: Position of the first byte.
            size: Number of bytes.
            expected: Their CRC-32; None where it was compared before.
            what: Part of the file, for the message.

        Raises:
            DamagedFile: They are not there, cannot be read, or are others.
        """
        parts, missing = [], size
        try:
            while missing:  # one call reads at most 2 GB
                parts.append(_read_at(self._file, missing, start + size - missing))
                missing -= len(parts[-1])
                if not parts[-1]:
                    raise DamagedFile(f"{self.name}{what} is cut short")
        except OSError as error:  # such as a bad sector
            raise DamagedFile(f"{self.name}{what}: {error.strerror}") from error
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if expected is not None and checksum(data) != expected:
            raise DamagedFile(f"{self.name}{what} holds other bytes than were written")
        return data


class RowReader(Sequence[np.ndarray]):
    """Reader of the rows of a file, which are compared with their checksums when first read.

    `reader[row]`, `reader[rows]` and `reader[row, ...]` read rows; `np.asarray(reader)` reads all.

    Args:
        file: The file.
        header: Its first bytes, which were compared before.
        checksums: CRC-32 of each row, `N`.
    """

    def __init__(self, file: OpenFile, header: bytes, checksums: np.ndarray) -> None:
        self._file, self._offset, self._checksums = file, len(header), checksums
        buffer = io.BytesIO(header)
        np.lib.format.read_magic(buffer)
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(buffer)
        self._bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._compared = np.zeros(len(checksums), bool)

    def __len__(self) -> int:
        return int(self.shape[0])

    def row(self, row: int) -> np.ndarray:
        """Return a new array with the values of one row.

        Raises:
            DamagedFile: They are damaged.
        """
        expected = None if self._compared[row] else int(self._checksums[row])
        data = self._file.read(
            self._offset + row * self._bytes, self._bytes, expected, f", row {row},"
        )
        self._compared[row] = True
        return np.frombuffer(bytearray(data), self.dtype).reshape(self.shape[1:])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):
            return self[index[0]][index[1:]]
        if isinstance(index, int | np.integer):
            return self.row(range(len(self))[index])
        return np.stack([self.row(int(row)) for row in np.arange(len(self))[index]])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
