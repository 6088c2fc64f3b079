"""Any data set that already is a manifest: a CSV or JSON with one row per image."""

from pathlib import Path
from typing import Any

from datamodules.base import ManifestDataModule
from datamodules.manifest import Manifest, read
from datamodules.refusal import ManifestError


class TableDataModule(ManifestDataModule):
    """Reads `root/manifest`: columns id, image, and where known mask, group, split, stratum; paths relative to the file.

    Args:
        manifest_name: The file below root.
        classes: Names of the mask's classes; the manifest's own where it has some.
        **base: As `ManifestDataModule`.
    """

    def __init__(self, manifest_name: str = "manifest.csv", classes: list[str] | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.manifest_name = manifest_name
        self.class_names = tuple(classes) if classes else None

    def manifest(self) -> Manifest:
        """The table as it stands, every image checked to exist."""
        path = self.root / self.manifest_name
        table = read(path)
        for image in table.rows["image"]:
            if not Path(image).is_file():
                raise ManifestError(f"{path} names {image}, which does not exist; paths are relative to the manifest's folder")
        return Manifest(table.rows, self.class_names or table.classes, table.group_is)
