"""Layouts of images or volumes with masks: two folders, or pairs in one folder."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from datamodules.errors import ManifestError
from datamodules.formats.layout import (
    IMAGE_WORDS,
    MASK_WORDS,
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    folder_of,
    list_files,
    split_of,
    stem,
    suffix,
    without_splits,
    words,
)

MASK_NAME = (
    r"(?:mask|masks|seg|segmentation|label|labels|gt|ground[ _-]?truth|annotation|anno|lesion|roi)"
)
# `a_mask`, `a_mask_1`, `a-seg`, `a (1)_mask`, `a@`
MASK_END = re.compile(rf"(?P<stem>.+?)(?:[ _.-]{MASK_NAME}(?:[ _.-]?\d+)?|@)$", re.IGNORECASE)
MASK_START = re.compile(rf"^{MASK_NAME}[ _.-](?P<stem>.+)$", re.IGNORECASE)
IMAGE_ENDS = re.compile(
    r"^(?:(?:image|img|im|scan)[ _.-](?P<end>.+)|(?P<start>.+?)[ _.-](?:image|img|im|scan))$",
    re.IGNORECASE,
)


class ImageMaskFolders(Layout):
    """Folders of images and of masks: `images/` and `masks/`, with or without splits."""

    name = "image_mask_folders"
    task = "masks"
    looks_for = "a folder of images (images, imgs, ...) and one of masks (masks, labels, ...)"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize folders whose names say images and masks."""
        images, masks = _split_by_folder(tree)
        if not images or not masks:
            return None
        folders = (
            sorted({folder_of(file) for file in images}),
            sorted({folder_of(file) for file in masks}),
        )
        return (
            f"{list_files(f'{name}/' for name in folders[0])} with {len(images)} images, and"
            f" {list_files(f'{name}/' for name in folders[1])} with {len(masks)} masks"
        )

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Pair images and masks by name within each split and subfolder."""
        images, masks = _split_by_folder(tree)
        return pair_masks(tree, images, masks)


class ImageMaskPairs(Layout):
    """Images and masks side by side: `a.png` with `a_mask.png`, `a_mask_1.png` or `a@.png`."""

    name = "image_mask_pairs"
    task = "masks"
    looks_for = "pairs such as a.png with a_mask.png, a_seg.png or a@.png in one folder"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize pairs if they make up most of the images."""
        if _split_by_folder(tree)[1]:
            return None
        images, masks = _split_by_name(tree)
        places = image_places(images)
        paired = [mask for mask in masks if is_mask_beside(mask, places)]
        if not paired or 2 * len(paired) < len(images):
            return None
        return f"{len(images)} images, and {len(masks)} masks of the same names beside them"

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Pair images and masks by name within each folder."""
        return pair_masks(tree, *_split_by_name(tree))


def is_mask_beside(file: str, images: set[tuple[str, str]]) -> bool:
    """Return True if a file is the mask of one of some images, which `image_places` names."""
    return _base(file) in images


def image_places(files: Sequence[str]) -> set[tuple[str, str]]:
    """Return folder and stem of each file."""
    return {_place(file) for file in files}


def pair_masks(tree: FolderTree, images: list[str], masks: list[str]) -> LayoutContent:
    """Make one record per image, with the masks of its name; nothing is paired by order.

    Raises:
        ManifestError: No mask has the name of an image, a mask fits two images, or masks of one
            image lie in different folders.
    """
    of_place: dict[tuple[str | None, tuple[str, ...]], tuple[list[str], list[str]]]
    of_place = defaultdict(lambda: ([], []))
    for number, files in enumerate((images, masks)):
        for file in files:
            of_place[split_of(file), without_splits(folder_of(file))][number].append(file)
    found: dict[str, list[str]] = {image: [] for image in images}
    leftovers = []
    for some_images, some_masks in of_place.values():
        leftovers += _pair_in_place(tree, some_images, some_masks, found)
    if masks and len(leftovers) == len(masks):
        raise ManifestError(
            f"{tree.root}: no mask has the name of an image, such as {list_files(images[:2])} and"
            f" {list_files(masks[:2])}; name masks as their images (also NAME_mask, NAME_seg,"
            " NAME_label), because they are never paired by order"
        )
    records = [
        ImageRecord(image, split_of(image), masks=found[image], annotated=bool(found[image]))
        for image in images
    ]
    counted = [("mask without an image of its name: left out", file) for file in leftovers]
    counted += [
        ("several masks of one image: joined", image) for image, of in found.items() if len(of) > 1
    ]
    return LayoutContent(records, counted=counted)


def _pair_in_place(
    tree: FolderTree, images: list[str], masks: list[str], found: dict[str, list[str]]
) -> list[str]:
    """Add each mask to its image in `found`; return the masks without an image."""
    by_name = [_index(tree, images, level) for level in range(LEVELS)]
    leftovers = []
    for mask in masks:
        image = None
        for level, index in enumerate(by_name):
            candidates = index.get(_mask_key(mask, level), [])
            if len(candidates) > 1:
                raise ManifestError(
                    f"{tree.root}: the mask {mask} fits {list_files(candidates)}; rename them, so"
                    " that each mask fits one image"
                )
            if candidates:
                image = candidates[0]
                break
        if image is None:
            leftovers.append(mask)
            continue
        others = found[image]
        if others and folder_of(others[0]) != folder_of(mask):
            raise ManifestError(
                f"{tree.root}: {image} has the masks {others[0]} and {mask} in different folders,"
                " which may be different classes or annotators; keep one folder of masks, or write"
                " a label map"
            )
        others.append(mask)
    return leftovers


LEVELS = 4


def _index(tree: FolderTree, images: list[str], level: int) -> dict[str, list[str]]:
    index: dict[str, list[str]] = defaultdict(list)
    for image in images:
        name = stem(image)
        if level >= 2:
            ends = IMAGE_ENDS.match(name)
            name = (ends["end"] or ends["start"]) if ends else name
        index[name if level == 0 else name.casefold()].append(image)
    return index


def _mask_key(mask: str, level: int) -> str:
    """Return the name of the image that a mask belongs to; later levels drop more of it."""
    name = stem(mask)
    if level == 0:
        return name
    end = MASK_END.match(name)
    if end:
        name = end["stem"]
    if level == 3 and (start := MASK_START.match(name)):
        name = start["stem"]
    return name.casefold()


def _split_by_folder(tree: FolderTree) -> tuple[list[str], list[str]]:
    """Return the images and the masks that the names of their folders tell apart."""
    images, masks = [], []
    for file in tree.files:
        if not _is_picture(tree, file):
            continue
        kind = _folder_kind(folder_of(file))
        if kind == "mask":
            masks.append(file)
        elif kind == "image":
            images.append(file)
    return images, masks


def _is_picture(tree: FolderTree, file: str) -> bool:
    """Return True for an image or a volume, or a mask that is an array."""
    return suffix(file) == ".npy" or tree.is_picture(file)


def _folder_kind(folder: str) -> str | None:
    """Return what the innermost folder whose name says it holds: images or masks."""
    for part in reversed(PurePosixPath(folder).parts):
        named = words(part)
        if named & MASK_WORDS:
            return "mask"
        if named & IMAGE_WORDS:
            return "image"
    return None


def _split_by_name(tree: FolderTree) -> tuple[list[str], list[str]]:
    """Return the images, and the masks: files named as another file with a mask's ending."""
    files = [file for file in tree.files if _is_picture(tree, file)]
    places = image_places(files)
    masks = [file for file in files if _base(file) in places]
    taken = set(masks)
    return [file for file in files if file not in taken and suffix(file) != ".npy"], masks


def _place(file: str) -> tuple[str, str]:
    return folder_of(file), stem(file)


def _base(mask: str) -> tuple[str, str] | None:
    """Return folder and stem of the image that a mask's name points to; None if to none."""
    end = MASK_END.match(stem(mask))
    return None if end is None else (folder_of(mask), end["stem"])
