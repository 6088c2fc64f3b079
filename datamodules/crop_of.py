"""The crop that a row asks for."""

from datamodules.manifest import Manifest


def get_crop(manifest: Manifest, row: int) -> list[int] | None:
    """Return [top, left, side] in pixels of the whole image, or None where all of it is shown."""
    crop = manifest.rows["crop"].iat[row] if "crop" in manifest.rows else None
    return list(crop) if isinstance(crop, list | tuple) else None
