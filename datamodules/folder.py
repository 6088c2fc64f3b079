"""Folder of images or DICOMs without annotations, to predict on."""

from functools import cached_property
from typing import Any

import pandas as pd

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.data_root import check_root
from datamodules.errors import ManifestError
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_io import IMAGE_SUFFIXES
from datamodules.manifest.manifest import Manifest


@validated
class FolderDataModule(ManifestDataModule):
    """Folder of unannotated images, all in the split test; only for `do=[predict]`.

    Args:
        classes: Names of the network's classes.
        **base: As `ManifestDataModule`.
    """

    can_validate = False

    def __init__(self, classes: Names, **base: Any) -> None:
        super().__init__(**base)
        self.classes = tuple(classes)

    def manifest(self) -> Manifest:
        """Return one row per file; its id is the file's stem, or its path if stems repeat."""
        files = sorted(
            path
            for path in self.root.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not files:
            raise ManifestError(
                f"{self.root} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); set"
                " datamodule.root to a folder of images"
            )
        stems = [path.stem for path in files]
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
        manifest = self.manifest()
        manifest.rows["split"] = "test"
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """Cache of decoded images."""
        return self.open_cache()

    def prepare_data(self) -> None:
        """Decode the images that are not in the cache yet."""
        _ = self.cache
