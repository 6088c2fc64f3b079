"""Search for leaks between splits: shared groups, identical files and near duplicates."""

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from datamodules.errors import ManifestError
from datamodules.formats.kept_result import SUFFIX, load_result, store_result

THUMBNAIL_SIZE = 32  # side in pixels
MAX_HASH_DISTANCE = 12  # bits of 64 in which the perceptual hashes of a proposed pair may differ
MIN_CORRELATION = 0.97  # smallest correlation of the thumbnails of a near duplicate
# of standardized thumbnails, where ||a - b||^2 = 2 - 2 correlation; with room for rounding
MAX_SQUARED_DISTANCE = 2 - 2 * MIN_CORRELATION + 1e-3
BLOCK_ROWS, BLOCK_COLUMNS = 64, 4096  # pairs of hashes compared at once: within a core's cache
PAIR_BLOCK = 1024  # pairs of thumbnails compared at once, so that memory stays bounded
_buffers = threading.local()  # of each thread that compares hashes


@dataclass(frozen=True)
class NearDuplicate:
    """Pair of nearly identical images in different splits, perhaps mirrored or rotated.

    Attributes:
        first: Id of one image.
        second: Id of the other image.
        correlation: Correlation of their thumbnails.
        turned: Rotation and mirroring of the second image.
    """

    first: str
    second: str
    correlation: float
    turned: str


def check_leakage(rows: pd.DataFrame, digest: np.ndarray, allow_leaks: bool) -> list[str]:
    """Refuse a split in which a group or a file's content is in two parts.

    Args:
        rows: The manifest's rows with `id`, `group` and `split`.
        digest: Content hash of every row's image file.
        allow_leaks: True to continue; the leaks are then returned for the report.

    Returns:
        One sentence per leak.

    Raises:
        ManifestError: There are leaks and `allow_leaks` is false.
    """
    leaks = [
        *_values_across_splits(rows, rows["group"].to_numpy(), "group"),
        *_values_across_splits(rows, digest, "file content"),
    ]
    if leaks and not allow_leaks:
        raise ManifestError(
            f"{len(leaks)} leak(s) between splits:"
            f" {'; '.join(leaks[:3])}{' ...' if len(leaks) > 3 else ''}; make a new split with"
            " datamodule.split=group datamodule.near_duplicates=join, which keeps groups and equal"
            " images together, or continue with datamodule.allow_leaks=true"
        )
    return leaks


def _values_across_splits(rows: pd.DataFrame, key: np.ndarray, what: str) -> list[str]:
    table = pd.DataFrame(
        {"key": key, "id": rows["id"].to_numpy(), "split": rows["split"].to_numpy()}
    )
    sides = table.groupby("key")["split"].nunique()
    found = []
    for value, members in table[table["key"].isin(sides[sides > 1].index)].groupby("key"):
        names = [f"{row.id} ({row.split})" for row in members.drop_duplicates("split").itertuples()]
        label = f"{what} '{value}'" if what == "group" else f"the same {what}"
        found.append(f"{label} is in {' and '.join(names)}")
    return found


def leakage_stats(rows: pd.DataFrame) -> dict[str, int]:
    """Count the leaks of the split of `rows`.

    Counted are groups in two or more splits, their images, and the test images of such groups.
    """
    sides = rows.groupby("group")["split"].nunique()
    across = rows["group"].isin(sides[sides > 1].index)
    test = rows["split"] == "test"
    return {
        "groups": int((sides > 1).sum()),
        "of_groups": len(sides),
        "images": int(across.sum()),
        "test_images": int((across & test).sum()),
        "of_test_images": int(test.sum()),
    }


def make_thumbnail(gray: np.ndarray) -> np.ndarray:
    """Squeeze a whole image, uint8 `H x W`, to uint8 `THUMBNAIL_SIZE x THUMBNAIL_SIZE`."""
    return cv2.resize(gray, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)


def find_near_duplicates(rows: pd.DataFrame, thumbnails: np.ndarray) -> list[NearDuplicate]:
    """Find near duplicates in different splits.

    A perceptual hash proposes pairs, and the correlation of their thumbnails confirms them. Every
    pair of rows in different splits is compared, in blocks that fit into the processor's cache.

    Args:
        rows: The manifest's rows with `id` and `split`.
        thumbnails: uint8 `N x THUMBNAIL_SIZE x THUMBNAIL_SIZE`.

    Returns:
        Each pair once, the most similar first. All eight rotations and mirrorings of the second
        image are tried.
    """
    names, splits = rows["id"].tolist(), pd.factorize(rows["split"], sort=True)[0]
    order = np.argsort(splits, kind="stable")
    splits, pictures = splits[order], np.asarray(thumbnails)[order]
    own = _Fingerprints.of(pictures)
    best: dict[tuple[int, int], tuple[float, str]] = {}
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(rows), BLOCK_ROWS)]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # NumPy's loops release the lock
        for turned, other_pictures in _orientations(pictures):
            other = _Fingerprints.of(other_pictures)
            for first, second in pool.map(partial(_propose, own, other, splits), blocks):
                for part in range(0, len(first), PAIR_BLOCK):
                    i, j = first[part : part + PAIR_BLOCK], second[part : part + PAIR_BLOCK]
                    correlation = np.einsum(
                        "ij,ij->i", _standardize(pictures[i]), _standardize(other_pictures[j])
                    )
                    for pair in np.flatnonzero(correlation >= MIN_CORRELATION).tolist():
                        key, value = (int(i[pair]), int(j[pair])), float(correlation[pair])
                        if key not in best or best[key][0] < value:
                            best[key] = value, turned
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))
    return [
        NearDuplicate(names[order[a]], names[order[b]], value, turned)
        for (a, b), (value, turned) in ranked
    ]


def cached_near_duplicates(
    rows: pd.DataFrame, thumbnails: np.ndarray, folder: Path
) -> list[NearDuplicate]:
    """Return `find_near_duplicates` from a file in `folder`, or make the file.

    Args:
        rows: As in `find_near_duplicates`.
        thumbnails: As in `find_near_duplicates`.
        folder: The cache of these images. A file holds the pairs of one split; other images, names
            or splits make another one.
    """
    key = hashlib.sha256(np.ascontiguousarray(thumbnails).tobytes())
    for column in ("id", "split"):
        key.update(json.dumps(rows[column].tolist()).encode())
    key.update(f"{MAX_HASH_DISTANCE} {MIN_CORRELATION}".encode())
    path = folder / f"near_duplicates_{key.hexdigest()[:16]}{SUFFIX}"
    stored = load_result(path)
    if stored is not None:
        return [NearDuplicate(**pair) for pair in stored]
    found = find_near_duplicates(rows, thumbnails)
    store_result(path, [asdict(pair) for pair in found])
    return found


@dataclass(frozen=True)
class _Fingerprints:
    """What pairs of thumbnails are proposed by.

    Attributes:
        hashes: Perceptual hashes, uint64 `N`.
        low: The 63 lowest cosine coefficients of the standardized thumbnails but the mean,
            float32 `N x 63`. Their distance is at most that of the thumbnails.
    """

    hashes: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, thumbnails: np.ndarray) -> "_Fingerprints":
        """Compute both, a part of the thumbnails at a time."""
        hashes = np.zeros(len(thumbnails), np.uint64)
        low = np.zeros((len(thumbnails), 63), np.float32)
        for start in range(0, len(thumbnails), PAIR_BLOCK):
            part = slice(start, start + PAIR_BLOCK)
            coefficients = _low_coefficients(thumbnails[part])
            norm = thumbnails[part].std((1, 2), dtype=np.float64) * THUMBNAIL_SIZE
            hashes[part] = _hash_coefficients(coefficients)
            low[part] = coefficients[:, 1:] / np.maximum(norm, 1e-6)[:, None]
        return cls(hashes, low)


def _propose(
    own: _Fingerprints, other: _Fingerprints, splits: np.ndarray, block: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a block of rows with rows of later splits that may be near duplicates.

    The rows are sorted by split. A pair that is left out has another hash, or thumbnails that
    cannot correlate enough.
    """
    hashes = own.hashes[block, None]
    if not hasattr(_buffers, "differing"):  # allocating it each time costs more than the work
        _buffers.differing = np.empty((BLOCK_ROWS, BLOCK_COLUMNS), np.uint64)
        _buffers.bits = np.empty((BLOCK_ROWS, BLOCK_COLUMNS), np.uint8)
        _buffers.near = np.empty((BLOCK_ROWS, BLOCK_COLUMNS), bool)
    first, second = [np.zeros(0, int)], [np.zeros(0, int)]
    begin = int(np.searchsorted(splits, splits[block.start], side="right"))
    for start in range(begin, len(splits), BLOCK_COLUMNS):
        columns = other.hashes[None, start : start + BLOCK_COLUMNS]
        shape = slice(len(hashes)), slice(columns.shape[1])
        differing, bits = _buffers.differing[shape], _buffers.bits[shape]
        near = _buffers.near[shape]
        np.bitwise_xor(hashes, columns, out=differing)
        np.bitwise_count(differing, out=bits)
        np.less_equal(bits, MAX_HASH_DISTANCE, out=near)
        if not near.any():
            continue
        i, j = np.nonzero(near)
        i, j = i + block.start, j + start
        for part in range(0, len(i), PAIR_BLOCK):
            a, b = i[part : part + PAIR_BLOCK], j[part : part + PAIR_BLOCK]
            distance = np.square(own.low[a] - other.low[b]).sum(1)
            kept = (distance <= MAX_SQUARED_DISTANCE) & (splits[a] < splits[b])
            first.append(a[kept])
            second.append(b[kept])
    return np.concatenate(first), np.concatenate(second)


def merge_near_duplicate_groups(rows: pd.DataFrame, thumbnails: np.ndarray) -> np.ndarray:
    """Join groups that a near duplicate connects; every connected component becomes one group.

    Args:
        rows: The manifest's rows with `id` and `group`.
        thumbnails: As in `find_near_duplicates`.

    Returns:
        The group of each row: the name of the first group of its connected component.
    """
    each_alone = rows.assign(
        split=[f"{number:09d}" for number in range(len(rows))]
    )  # every row is its own split, so that every pair is compared
    row = {id: number for number, id in enumerate(rows["id"])}
    pairs = [
        (row[pair.first], row[pair.second]) for pair in find_near_duplicates(each_alone, thumbnails)
    ]
    groups, _ = pd.factorize(rows["group"])
    edges = np.array(pairs + [(number, len(rows) + group) for number, group in enumerate(groups)])
    size = len(rows) + len(rows)
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(rows)]
    return rows["group"].groupby(component).transform("first").to_numpy()


def perceptual_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Compute 64-bit perceptual hashes (Zauner 2010).

    A bit is 1 if one of the 8 x 8 lowest cosine coefficients exceeds the median of all but the
    first.
    """
    return _hash_coefficients(_low_coefficients(thumbnails))


def _low_coefficients(thumbnails: np.ndarray) -> np.ndarray:
    """Return the 8 x 8 lowest cosine coefficients of each thumbnail, `N x 64`."""
    if not len(thumbnails):
        return np.zeros((0, 64))
    return np.stack([cv2.dct(picture)[:8, :8].ravel() for picture in thumbnails.astype(np.float32)])


def _hash_coefficients(coefficients: np.ndarray) -> np.ndarray:
    bits = coefficients > np.median(coefficients[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def _standardize(thumbnails: np.ndarray) -> np.ndarray:
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _orientations(thumbnails: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for quarter in range(4):
        turned = np.rot90(thumbnails, quarter, axes=(1, 2))
        yield f"{90 * quarter} degrees" if quarter else "unchanged", np.ascontiguousarray(turned)
        yield (
            f"mirrored, {90 * quarter} degrees" if quarter else "mirrored",
            np.ascontiguousarray(turned[:, :, ::-1]),
        )
