"""Strata (negatives, and positives by quartile of lesion area) and weights of hard rows."""

import numpy as np

from datamodules.errors import ManifestError
from datamodules.formats.image_cache import ImageCache
from datamodules.manifest.manifest import Manifest, present_classes
from datamodules.sampling.config import SamplingConfig
from datamodules.sampling.epoch_sampler import SamplingPool

NO_LESION = "0_none"
QUARTILES = ("1_q1", "1_q2", "1_q3", "1_q4")  # from small to large


def compute_strata(manifest: Manifest, cache: ImageCache) -> np.ndarray:
    """Return each row's stratum: the manifest's own, else by its lesion's area, else by its label.

    The quartiles of the relative lesion area are computed from the positives of train only, so that
    nothing from val or test is used.
    """
    if "stratum" in manifest.rows:
        return manifest.rows["stratum"].astype(str).to_numpy()
    positive = present_classes(manifest, cache).any(1)
    if not cache.has_masks:
        return np.where(positive, "1_positive", NO_LESION)
    train = np.zeros(len(manifest), bool)
    train[manifest.where("train")] = True
    return area_quartiles(
        np.asarray(cache.areas).sum(1) / np.asarray(cache.sizes, np.int64).prod(1), train
    )


def area_quartiles(area: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the name of each row's stratum by its lesion's area.

    Args:
        area: Area of each row's lesion in any unit, 0 for none.
        train: True for the rows that the quartiles are computed from.
    """
    known = area[train & (area > 0)]
    edges = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else np.zeros(3)
    quartile = np.array(QUARTILES)[np.searchsorted(edges, area, side="left")]
    return np.where(area > 0, quartile, NO_LESION)


def build_sampling_pool(
    manifest: Manifest, cache: ImageCache, sampling: SamplingConfig, seed: int
) -> SamplingPool:
    """Return the sampling pool of the rows of train.

    Args:
        manifest: Rows with their final split.
        cache: Decoded images and masks.
        sampling: Sampling configuration.
        seed: Seed of the selection of negatives, if not all are used.

    Raises:
        ManifestError: Hard samples have another weight, and some rows have no `cls_prob`.
    """
    rows, positive = subsample_negatives(manifest, cache, sampling, seed)
    hard = hard_weights(manifest, rows, positive, sampling)
    return SamplingPool(
        rows, positive, compute_strata(manifest, cache)[rows], hard, sampling.oversample_positives
    )


def subsample_negatives(
    manifest: Manifest, cache: ImageCache, sampling: SamplingConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of train that are used, and True for those that are positive.

    These are all positives, and `negative_fraction` of the negatives to within one image.
    """
    rows = manifest.where("train")
    positive = np.asarray(present_classes(manifest, cache).any(1))[rows]
    negatives = np.random.default_rng([seed, 15]).permutation(np.flatnonzero(~positive))
    used = positive.copy()
    used[negatives[: round(sampling.negative_fraction * len(negatives))]] = True
    return rows[used], positive[used]


def hard_weights(
    manifest: Manifest, rows: np.ndarray, positive: np.ndarray, sampling: SamplingConfig
) -> np.ndarray:
    """Return the weight of each of `rows`, which is 1 unless the pre-classifier was wrong.

    Raises:
        ManifestError: See `build_sampling_pool`.
    """
    weights = np.ones(len(rows))
    if not sampling.uses_hard_examples:
        return weights
    column = (
        manifest.rows["cls_prob"].iloc[rows]
        if "cls_prob" in manifest.rows
        else manifest.rows["id"].iloc[rows].map(lambda _: np.nan)
    )
    probability = column.to_numpy(np.float64)
    missing = np.flatnonzero(np.isnan(probability))
    if len(missing):
        first = manifest.rows["id"].iloc[rows[missing[0]]]
        raise ManifestError(
            f"cls_prob is missing for {len(missing)} of {len(rows)} train images, such as"
            f" '{first}', but it is needed to find hard samples; create it with"
            " experiment=preclassify_pnx folds=5 and set datamodule.cls_prob=RUN to that run, or"
            " set"
            " datamodule/sampling=natural"
        )
    weights[~positive & (probability > sampling.hard_threshold)] = sampling.hard_negative
    weights[positive & (probability < sampling.hard_threshold)] = sampling.hard_positive
    return weights
