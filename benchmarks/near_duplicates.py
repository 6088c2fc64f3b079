"""The search for near duplicates: relative to comparing all hashes at once, and its time at scale.

The thumbnails are smooth random images of which one in fifty is a copy of another, turned or
brightened; 70 % are in train, 10 % in val, 20 % in test. Both searches are timed in turn.

python benchmarks/near_duplicates.py [--images 8000] [--rounds 3] [--large 112000]
"""

import argparse
import statistics
import time

import cv2
import numpy as np
import pandas as pd
import parts  # noqa: F401  (puts the repository on the path)

from datamodules.manifest.leakage import (
    MAX_HASH_DISTANCE,
    MIN_CORRELATION,
    find_near_duplicates,
    perceptual_hash,
)

BLOCK = 1024


def draw(images: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows with id and split, and thumbnails."""
    random = np.random.default_rng(0)
    common = cv2.GaussianBlur(random.normal(size=(32, 32)).astype(np.float32), (0, 0), 4)
    thumbnails = np.empty((images, 32, 32), np.uint8)
    for k in range(images):
        own = cv2.GaussianBlur(random.normal(size=(32, 32)).astype(np.float32), (0, 0), 2.5)
        mixed = 0.6 * common / common.std() + 0.4 * own / own.std()
        thumbnails[k] = np.clip(128 + 40 * mixed + random.normal(size=(32, 32)), 0, 255)
    for k in range(images // 50):
        one, other = random.integers(0, images, 2)
        thumbnails[other] = np.rot90(thumbnails[one], k % 4)
    splits = random.choice(["train", "val", "test"], images, p=[0.7, 0.1, 0.2])
    return pd.DataFrame({"id": [f"i{k}" for k in range(images)], "split": splits}), thumbnails


def compare_all(rows: pd.DataFrame, thumbnails: np.ndarray) -> set[tuple[str, str]]:
    """Return the pairs, by comparing each block of hashes with all hashes."""
    splits, names = pd.factorize(rows["split"], sort=True)[0], rows["id"].tolist()
    flat, hashes, found = standardize(thumbnails), perceptual_hash(thumbnails), set()
    for quarter in range(4):
        for mirrored in (False, True):
            other = np.rot90(thumbnails, quarter, axes=(1, 2))
            other = np.ascontiguousarray(other[:, :, ::-1] if mirrored else other)
            other_flat, other_hashes = standardize(other), perceptual_hash(other)
            for start in range(0, len(rows), BLOCK):
                block = slice(start, start + BLOCK)
                near = np.bitwise_count(hashes[block, None] ^ other_hashes) <= MAX_HASH_DISTANCE
                i, j = np.nonzero(near & (splits[block, None] < splits))
                same = np.einsum("ij,ij->i", flat[i + start], other_flat[j]) >= MIN_CORRELATION
                found |= {
                    (names[a + start], names[b]) for a, b in zip(i[same], j[same], strict=True)
                }
    return found


def standardize(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails as vectors of mean 0 and norm 1."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=112_000)
    asked = parser.parse_args()
    rows, thumbnails = draw(asked.images)
    ratios = []
    for _ in range(asked.rounds):
        began = time.perf_counter()
        found = {(pair.first, pair.second) for pair in find_near_duplicates(rows, thumbnails)}
        between = time.perf_counter()
        assert found == compare_all(rows, thumbnails)
        ratios.append((time.perf_counter() - between) / (between - began))
    print(
        f"{asked.images} images: {len(found)} pairs, the same as by comparing all at once, in"
        f" 1/{statistics.median(ratios):.1f} of its time (median of {asked.rounds} rounds)"
    )
    rows, thumbnails = draw(asked.large)
    began = time.perf_counter()
    pairs = find_near_duplicates(rows, thumbnails)
    print(f"{asked.large} images: {len(pairs)} pairs, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
