"""Any folder of images or DICOMs without annotations, to predict on."""

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
    """Every image below `root` as test, for `do=[predict]` alone.

    Args:
        classes: Names of the classes that the network knows.
        **base: As `ManifestDataModule`.
    """

    can_validate = False

    def __init__(self, classes: Names, **base: Any) -> None:
        super().__init__(**base)
        self.classes = tuple(classes)

    def manifest(self) -> Manifest:
        """One row per file; its id is the file's stem, or its path below `root` if stems repeat."""
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
        """All images, as test."""
        check_root(self.root)
        manifest = self.manifest()
        manifest.rows["split"] = "test"
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """The decoded images."""
        return self.open_cache()

    def prepare_data(self) -> None:
        """Decodes what is new."""
        _ = self.cache
