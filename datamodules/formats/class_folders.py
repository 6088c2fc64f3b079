"""Layout of image classification: one folder per class, with or without splits."""

from collections import defaultdict
from pathlib import PurePosixPath

from datamodules.errors import ManifestError
from datamodules.formats.layout import (
    IMAGE_WORDS,
    SPLIT_WORDS,
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    folder_of,
    list_files,
    says_only,
    split_of,
)
from datamodules.formats.mask_folders import image_places, is_mask_beside

NOT_CLASSES = set().union(*SPLIT_WORDS.values()) | IMAGE_WORDS


class ClassFolders(Layout):
    """One folder per class: `NORMAL/` and `PNEUMONIA/`, also below `train/`, `val/` and `test/`."""

    name = "class_folders"
    task = "labels"
    looks_for = "two or more folders of images that are named by the classes"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize two or more class folders, all at one depth."""
        found = _class_of_each(tree)
        classes = sorted(set(found.values()))
        if len(classes) < 2 or len(found) < len(_images(tree)):
            return None
        return f"the folders {list_files(f'{name}/' for name in classes)} hold {len(found)} images"

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read the class of each image from its folder."""
        found = _class_of_each(tree)
        if not found:
            raise ManifestError(
                f"{tree.root} has no class folders at one depth; put the images of each class into"
                " a folder of its name"
            )
        records = [ImageRecord(file, split_of(file), label=name) for file, name in found.items()]
        _check_one_class_per_name(tree, records)
        masks = [file for file in tree.images if file not in found]
        counted = [("mask beside an image: not used for its label", file) for file in masks]
        return LayoutContent(records, sorted(set(found.values())), counted=counted)


def _images(tree: FolderTree) -> list[str]:
    """Return the images that are not masks of other images."""
    places = image_places(tree.images)
    return [file for file in tree.images if not is_mask_beside(file, places)]


def _class_of_each(tree: FolderTree) -> dict[str, str]:
    """Return the class of each image: the only folder that names no split and no images.

    Empty if some image lies in no such folder, or in several.
    """
    found, depths = {}, set()
    for file in _images(tree):
        named = [
            part
            for part in PurePosixPath(folder_of(file)).parts
            if not says_only(part, NOT_CLASSES)
        ]
        if named:
            found[file] = named[0]
        depths.add(len(named))
    return found if depths == {1} else {}


def _check_one_class_per_name(tree: FolderTree, records: list[ImageRecord]) -> None:
    """Refuse class folders whose names differ only in case, in different splits."""
    spelled = defaultdict(set)
    for record in records:
        spelled[str(record.label).casefold()].add(str(record.label))
    for names in spelled.values():
        if len(names) > 1:
            raise ManifestError(
                f"{tree.root} spells one class in several ways: {', '.join(sorted(names))}; rename"
                " the folders"
            )
