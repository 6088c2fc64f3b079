"""Division of the volumes of a folder into their slices, one record or row per slice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from datamodules.errors import ManifestError
from datamodules.formats.layout import FolderTree, ImageRecord
from datamodules.formats.volumes import SliceIndex, VolumeGrid, read_grid

Axis = int | Literal["auto"]


def expand_volumes(
    tree: FolderTree, records: Sequence[ImageRecord], axis: Axis
) -> list[ImageRecord]:
    """Replace the record of each volume by one record per slice, next to each other.

    Args:
        tree: Files of the folder.
        records: One per image or volume.
        axis: See `slice_axes`.

    Raises:
        ManifestError: Image and mask have not the same grid, or see `slice_axes`.
    """
    grids = {r.image: read_grid(tree.path(r.image)) for r in records if tree.is_volume(r.image)}
    axes = slice_axes({tree.path(image): grid for image, grid in grids.items()}, axis)
    expanded: list[ImageRecord] = []
    for record in records:
        grid = grids.get(record.image)
        _check_companions(tree, record, grid)
        if grid is None:
            expanded.append(record)
            continue
        along = axes[tree.path(record.image)]
        expanded += [
            replace(
                record,
                slice=SliceIndex(along, number),
                spacing=grid.slice_spacing(along),
            )
            for number in range(grid.size[along])
        ]
    return expanded


def slice_axes(grids: dict[Path, VolumeGrid], axis: Axis) -> dict[Path, int]:
    """Return the axis that the slices of each volume are perpendicular to.

    Args:
        grids: Grid of each file.
        axis: An axis of the files, or `auto` for `VolumeGrid.thick_axis`.

    Raises:
        ManifestError: `auto` finds different axes; files of one slice are left aside.
    """
    if axis != "auto":
        return dict.fromkeys(grids, int(axis))
    found = {path: grid.thick_axis for path, grid in grids.items()}
    first: dict[int, Path] = {}
    for path, along in found.items():
        if 1 not in grids[path].size:
            first.setdefault(along, path)
    if len(first) > 1:
        (one, path), (other, second) = list(first.items())[:2]
        raise ManifestError(
            f"{path} has its largest spacing along axis {one}, and {second} along axis {other}, so"
            " that their slices would show different planes; choose one with"
            f" datamodule.axis={one}, or separate the files"
        )
    return found


def slice_ids(names: Sequence[str], slices: Sequence[SliceIndex | None]) -> list[str]:
    """Return one id per row: `case1#012` for a slice, the name for any other image.

    A volume of one slice keeps its name.

    Args:
        names: Name of each row's file; those of the slices of one volume are equal.
        slices: Position of each row's slice, None for other images.
    """
    last: dict[str, int] = {}
    for name, index in zip(names, slices, strict=True):
        if index is not None:
            last[name] = max(last.get(name, 0), index.number)
    return [
        name
        if index is None or not last[name]
        else f"{name}#{index.number:0{max(3, len(str(last[name])))}d}"
        for name, index in zip(names, slices, strict=True)
    ]


def _check_companions(tree: FolderTree, record: ImageRecord, grid: VolumeGrid | None) -> None:
    """Refuse a mask or channel that has not the grid of its image."""
    for file in [*record.masks, *record.channels]:
        if tree.is_volume(file) != (grid is not None):
            raise ManifestError(
                f"{tree.path(record.image)} and {tree.path(file)} belong together, but only one of"
                " them is a volume; write both in one format"
            )
        differs = grid.differs_from(read_grid(tree.path(file))) if grid is not None else ""
        if differs:
            raise ManifestError(
                f"{tree.path(record.image)} and {tree.path(file)} are not on one grid: they have"
                f" {differs}; resample the second onto the first"
            )
