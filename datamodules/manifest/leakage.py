"""Search for leaks between splits: shared groups, identical files and near duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from datamodules.errors import ManifestError

THUMBNAIL_SIZE = 32  # side in pixels
MAX_HASH_DISTANCE = 12  # bits of 64 in which the perceptual hashes of a proposed pair may differ
MIN_CORRELATION = 0.97  # smallest correlation of the thumbnails of a near duplicate
PAIR_BLOCK = 1024  # rows compared at once, so that memory stays bounded


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
            f" {'; '.join(leaks[:3])}{' ...' if len(leaks) > 3 else ''}; make a new split by group"
            " with datamodule.split=group, or continue with datamodule.allow_leaks=true"
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

    A perceptual hash proposes pairs, and the correlation of their thumbnails confirms them.

    Args:
        rows: The manifest's rows with `id` and `split`.
        thumbnails: uint8 `N x THUMBNAIL_SIZE x THUMBNAIL_SIZE`.

    Returns:
        Each pair once, the most similar first. All eight rotations and mirrorings of the second
        image are tried.
    """
    names, splits = rows["id"].tolist(), pd.factorize(rows["split"], sort=True)[0]
    flat = _standardize(thumbnails)
    hashes = perceptual_hash(thumbnails)
    best: dict[tuple[int, int], NearDuplicate] = {}
    for turned, pictures in _orientations(thumbnails):
        other_hash, other = perceptual_hash(pictures), _standardize(pictures)
        for start in range(0, len(rows), PAIR_BLOCK):
            block = slice(start, start + PAIR_BLOCK)
            distance = np.bitwise_count(hashes[block, None] ^ other_hash[None, :])
            first, second = np.nonzero(
                (distance <= MAX_HASH_DISTANCE) & (splits[block, None] < splits[None, :])
            )
            for part in range(0, len(first), PAIR_BLOCK):
                i, j = first[part : part + PAIR_BLOCK] + start, second[part : part + PAIR_BLOCK]
                correlation = np.einsum("ij,ij->i", flat[i], other[j])
                for a, b, value in zip(i.tolist(), j.tolist(), correlation.tolist(), strict=True):
                    if value >= MIN_CORRELATION and (
                        (a, b) not in best or best[a, b].correlation < value
                    ):
                        best[a, b] = NearDuplicate(names[a], names[b], value, turned)
    return sorted(best.values(), key=lambda pair: -pair.correlation)


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
    coefficients = (
        np.stack([cv2.dct(picture)[:8, :8].ravel() for picture in thumbnails.astype(np.float32)])
        if len(thumbnails)
        else np.zeros((0, 64))
    )
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
