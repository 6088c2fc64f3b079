"""Folder of images, DICOMs or volumes without annotations, to predict on."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.data_root import check_root
from datamodules.errors import ManifestError
from datamodules.formats.gray_levels import Window
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_files import (
    image_name,
    is_volume,
    reason_for_no_image,
    walk_files,
)
from datamodules.formats.volume_slices import slice_axes, slice_ids
from datamodules.formats.volumes import SliceIndex, VolumeGrid, read_grid
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import check_images


@validated
class FolderDataModule(ManifestDataModule):
    """Folder of unannotated images, all in the split test; only for `do=[predict]`.

    Attributes:
        unreadable: Id of each file that cannot be read, with the reason. The others are predicted.
        passed_over: Each file that is no image, such as a PDF or a report, with the reason.

    Args:
        classes: Names of the network's classes.
        **base: As `ManifestDataModule`.
    """

    can_validate = False

    def __init__(self, classes: Names, **base: Any) -> None:
        super().__init__(**base)
        self.classes = tuple(classes)
        self._window: Window | None = None

    def manifest(self) -> Manifest:
        """Return one row per image or slice.

        Its id is the file's stem, or its path if stems repeat; `case1#012` is a slice. A volume
        whose header cannot be read is one row, so that it is listed as unreadable.
        """
        found = list(walk_files(self.root))
        volumes = sorted(filter(is_volume, found))
        reasons = {path: reason_for_no_image(path) for path in found if not is_volume(path)}
        self.passed_over = {path: reason for path, reason in sorted(reasons.items()) if reason}
        files = sorted([*(path for path, reason in reasons.items() if not reason), *volumes])
        if not files:
            raise ManifestError(
                f"{self.root} holds no image (PNG, JPEG, TIFF, DICOM, NIfTI and others, by suffix"
                " or content); set datamodule.root to a folder of images"
            )
        stems = [image_name(path) for path in files]
        ids = (
            stems
            if len(set(stems)) == len(stems)
            else [path.relative_to(self.root).as_posix() for path in files]
        )
        if not volumes:
            return Manifest(pd.DataFrame({"id": ids, "image": list(map(str, files))}), self.classes)
        return Manifest(_slice_rows(dict(zip(files, ids, strict=True)), self.axis), self.classes)

    @cached_property
    def table(self) -> Manifest:
        """Manifest of all images, with the split test."""
        check_root(self.root)
        manifest = self.read_manifest()
        manifest.rows["split"] = "test"
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """Cache of decoded images.

        Files that cannot be read are listed in `unreadable` and leave the split test.

        Raises:
            ManifestError: No file can be read.
        """
        cache = build_cache(
            self.table, self.cache_size, self.channels, self.cache_dir, unreadable="skip"
        )
        if len(cache.unreadable) == len(self.table):
            raise ManifestError(next(iter(cache.unreadable.values())))
        reasons = dict(cache.unreadable)
        try:
            window = self.find_window(cache)
        except ManifestError as refusal:
            deep = np.flatnonzero(cache.deep).tolist()
            if len(deep) + len(reasons) >= len(self.table):
                raise
            reasons |= dict.fromkeys(deep, str(refusal))  # the others have 8 bits
            window = None
        self._window = window
        self.table.rows.loc[list(reasons), "split"] = "unreadable"
        ids = self.table.rows["id"].tolist()
        self.unreadable = {ids[row]: reason for row, reason in reasons.items()}
        check_images(self.root, self.table, cache, self.inverted_masks, self.cleaning, window)
        return cache

    def display_window(self) -> Window | None:
        """Return the window that displays the images; None if none that is read needs one."""
        _ = self.cache
        return self._window

    def prepare_data(self) -> None:
        """Decode the images that are not in the cache yet."""
        _ = self.cache


def _slice_rows(names: dict[Path, str], axis: Any) -> pd.DataFrame:
    """Return the rows of images and of the slices of volumes, each with the name of its file."""
    grids: dict[Path, VolumeGrid] = {}
    for path in filter(is_volume, names):
        with suppress(ManifestError):
            grids[path] = read_grid(path)
    axes = slice_axes(grids, axis)
    rows: list[tuple[Path, SliceIndex | None]] = []
    for path in names:
        if path not in grids:
            rows.append((path, None))
            continue
        count = grids[path].size[axes[path]]
        rows += [(path, SliceIndex(axes[path], number)) for number in range(count)]
    ids = slice_ids([names[path] for path, _ in rows], [index for _, index in rows])
    table = pd.DataFrame({"id": ids, "image": [str(path) for path, _ in rows]})
    table["group"] = [names[path] for path, _ in rows]
    for column in ("axis", "slice"):
        cells = [None if index is None else index[column == "slice"] for _, index in rows]
        table[column] = pd.Series(cells, dtype=object)
    return table
