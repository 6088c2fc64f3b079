"""Registry of the layouts: which one a folder has, and why."""

from typing import NamedTuple

from datamodules.errors import ManifestError
from datamodules.formats.class_folders import ClassFolders
from datamodules.formats.coco import CocoLayout
from datamodules.formats.cvat import CvatLayout
from datamodules.formats.dicom_seg import DicomSegmentations
from datamodules.formats.label_studio import LabelStudioLayout
from datamodules.formats.labelme import LabelMeLayout
from datamodules.formats.layout import FolderTree, Layout, LayoutOptions, Task, list_files
from datamodules.formats.mask_folders import ImageMaskFolders, ImageMaskPairs
from datamodules.formats.nnunet import NnUnetLayout
from datamodules.formats.tables import LabelTable, MaskTable, read_table, table_files
from datamodules.formats.voc import VocLayout
from datamodules.formats.yolo import YoloLayout

LAYOUTS: tuple[Layout, ...] = (
    ImageMaskFolders(),
    ImageMaskPairs(),
    NnUnetLayout(),
    CocoLayout(),
    VocLayout(),
    YoloLayout(),
    LabelMeLayout(),
    CvatLayout(),
    LabelStudioLayout(),
    DicomSegmentations(),
    MaskTable(),
    ClassFolders(),
    LabelTable(),
)
LAYOUT_NAMES = tuple(layout.name for layout in LAYOUTS)


class LayoutMatch(NamedTuple):
    """A layout that a folder has, and why it was recognized."""

    layout: Layout
    reason: str


def matching_layouts(tree: FolderTree, task: Task, options: LayoutOptions) -> list[LayoutMatch]:
    """Return every layout of a task that the folder has, with the reason."""
    found = [
        (layout, layout.match(tree, options))
        for layout in LAYOUTS
        if layout.task == task and tree.files
    ]
    matched = [LayoutMatch(layout, reason) for layout, reason in found if reason]
    general = {name for match in matched for name in match.layout.specializes}
    return [match for match in matched if match.layout.name not in general]


def find_layout(
    tree: FolderTree, task: Task, name: str = "auto", options: LayoutOptions | None = None
) -> LayoutMatch:
    """Return the layout of a folder.

    Args:
        tree: Files of the folder.
        task: `masks` for a segmentation, `labels` for a classification.
        name: Name of a layout; `auto` takes the only one that matches.
        options: What the user says about the folder.

    Raises:
        ManifestError: No layout matches, or several do; or the named one does not.
    """
    matches = matching_layouts(tree, task, options or LayoutOptions())
    if name != "auto":
        for match in matches:
            if match.layout.name == name:
                return match
        layout = next(layout for layout in LAYOUTS if layout.name == name)
        raise ManifestError(
            f"datamodule.layout={name} needs {layout.looks_for}; {tree.root} holds"
            f" {describe_files(tree)}{_describe_json(tree)}"
        )
    if len(matches) > 1:
        listed = "; ".join(f"{match.layout.name} ({match.reason})" for match in matches)
        raise ManifestError(
            f"{tree.root} may be read in several ways: {listed}; choose one with"
            f" datamodule.layout={matches[0].layout.name}"
        )
    if matches:
        return matches[0]
    other: Task = "labels" if task == "masks" else "masks"
    experiment = "segmentation" if other == "masks" else "classification"
    fits = matching_layouts(tree, other, options or LayoutOptions())
    looked = "; ".join(
        f"{layout.name}: {layout.looks_for}" for layout in LAYOUTS if layout.task == task
    )
    without = f"{tree.root} has no layout that is known for {task}"
    if tree.unreadable and not fits:  # the file that cannot be read is the likely cause
        first = "; ".join(tree.unreadable[:2])
        raise ManifestError(f"{first}; without it {without} (docs/data.md). Looked for {looked}")
    hint = (
        f"; it fits experiment={experiment} ({fits[0].layout.name}: {fits[0].reason})"
        if fits
        else ""
    )
    hint += describe_tables(tree)
    raise ManifestError(
        f"{without}: it holds {describe_files(tree)}{hint}. Looked for {looked}. Rename the"
        " folders, or write a table (docs/data.md)"
    )


def _describe_json(tree: FolderTree) -> str:
    """Return which JSON files hold no annotations that are known; empty without any."""
    unknown = [
        file
        for file in tree.with_suffix(".json")
        if file not in tree.json_kinds and not any(file in said for said in tree.unreadable)
    ]
    return f"; {list_files(unknown)} holds neither COCO nor another known format" if unknown else ""


def describe_tables(tree: FolderTree) -> str:
    """Return the columns of the tables of a folder, and how to name them; empty without tables."""
    found = []
    for file in table_files(tree)[:2]:
        try:
            columns = read_table(tree.path(file)).columns
        except ManifestError:
            continue
        found.append(f"{file} has the columns {list_files(map(str, columns))}")
    if not found:
        return ""
    return (
        f"; {' and '.join(found)}: name those of images and labels with experiment=classification"
        " 'datamodule.columns={image: ..., label: ..., group: ...}', or of masks with"
        " experiment=segmentation 'datamodule.columns={image: ..., mask: ...}'"
    )


def describe_files(tree: FolderTree) -> str:
    """Return a short description of the files of a folder: how many of each suffix, and where."""
    if not tree.files and not tree.special:
        return "no files"
    kinds: dict[str, int] = {}
    for file in tree.files:
        kind = file.rpartition(".")[2].lower() if "." in file.rpartition("/")[2] else "no suffix"
        kinds[kind] = kinds.get(kind, 0) + 1
    common = sorted(kinds.items(), key=lambda item: -item[1])[:4]
    folders = sorted({file.rpartition("/")[0] for file in tree.files})
    listed = ", ".join(f"{count} {kind}" for kind, count in common)
    odd = f"; {list_files(tree.special)} is no regular file" if tree.special else ""
    odd += "".join(f"; {sentence}" for sentence in tree.unreadable[:2])
    several = "s" * (len(tree.files) > 1)
    return (
        f"{len(tree.files)} file{several} ({listed}) in"
        f" {list_files(f'{folder}/' if folder else 'its top folder' for folder in folders)}{odd}"
    )
