"""Folder of images or DICOMs without annotations, to predict on."""

from functools import cached_property
from typing import Any

import pandas as pd

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.data_root import check_root
from datamodules.errors import ManifestError
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_files import image_files, image_name
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import check_images


@validated
class FolderDataModule(ManifestDataModule):
    """Folder of unannotated images, all in the split test; only for `do=[predict]`.

    Attributes:
        unreadable: Id of each file that cannot be read, with the reason. The others are predicted.

    Args:
        classes: Names of the network's classes.
        **base: As `ManifestDataModule`.
    """

    can_validate = False

    def __init__(self, classes: Names, **base: Any) -> None:
        super().__init__(**base)
        self.classes = tuple(classes)

    def manifest(self) -> Manifest:
        """Return one row per image; its id is the file's stem, or its path if stems repeat."""
        files = image_files(self.root)
        if not files:
            raise ManifestError(
                f"{self.root} holds no image (PNG, JPEG, TIFF, DICOM and others, by suffix or"
                " content); set datamodule.root to a folder of images"
            )
        stems = [image_name(path) for path in files]
        ids = (
            stems
            if len(set(stems)) == len(stems)
            else [path.relative_to(self.root).as_posix() for path in files]
        )
        return Manifest(pd.DataFrame({"id": ids, "image": list(map(str, files))}), self.classes)

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
        rows = list(cache.unreadable)
        self.table.rows.loc[rows, "split"] = "unreadable"
        ids = self.table.rows["id"].tolist()
        self.unreadable = {ids[row]: reason for row, reason in cache.unreadable.items()}
        window = self.find_window(cache)
        check_images(self.root, self.table, cache, self.inverted_masks, self.cleaning, window)
        return cache

    def prepare_data(self) -> None:
        """Decode the images that are not in the cache yet."""
        _ = self.cache
