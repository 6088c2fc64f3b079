"""Folders and file names of a Roboflow export."""

from pathlib import Path

from datamodules.refusal import ManifestError

FOLDERS = {
    "train": ("train",),
    "val": ("valid", "val"),
    "test": ("test",),
}  # split -> names its folder may have
ANNOTATIONS = "_annotations.coco.json"


def annotation_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split.

    Raises:
        ManifestError: there is no such folder, or no such file in it.
    """
    folder = next((root / name for name in FOLDERS[split] if (root / name).is_dir()), None)
    if folder is None:
        raise ManifestError(
            f"{root} has no folder {' or '.join(FOLDERS[split])}; set datamodule.root to a COCO"
            " export with train/ valid/ test/"
        )
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise ManifestError(
            f"{path} does not exist; export as COCO, or set datamodule.root to the folder of train/"
            " valid/ test/"
        )
    return path


def original_name(file_name: str) -> str | None:
    """Return the name of the original, as `y289_jpg` of `y289_jpg.rf.003b28.jpg`.

    Each copy of an image has its own hash after `.rf.`; None without one.
    """
    original, mark, _ = Path(file_name).name.partition(".rf.")
    return original if mark else None
