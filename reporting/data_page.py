"""do=[inspect]: what a data set holds, as sentences and as a page with pictures."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape

from datamodules.base import ManifestDataModule
from datamodules.formats.atomic_write import atomic_write
from datamodules.image_size import SampleKey
from datamodules.loading.dataset import ManifestDataset, Sample
from datamodules.manifest.lesions import (
    FEW_PIXELS,
    extreme_rows,
    find_lesions,
    lesion_visibility,
)
from datamodules.manifest.manifest import SPLITS, present_classes, spacing_matrix
from datamodules.manifest.validation import CleaningReport
from reporting.cases import data_url
from reporting.live_run import describe_data
from reporting.overlays import class_color, fill_masks
from reporting.rendering import render
from reporting.tables import terminal_table

PICTURES_OF_EACH = 10  # pictures of each kind on the page
MAX_SIDE = 320  # longest side of a picture in pixels
AUGMENTED = 3  # augmented versions of an image
PREFIX = re.compile(r"^(.*?\d+)[_.-]")  # `case7` of `case7_012`
MIN_GROUPS = 3
SIDED = re.compile(r"(?:^|[^a-z])(?:left|right|links|rechts|gauche|droite?)(?:[^a-z]|$)", re.I)
# as a shell and Hydra's grammar take it
GROUP_HINT = """'datamodule.group_pattern="([^/]*?[0-9]+)[_.-][^/]*$"'"""
MAX_COPIES = 5  # groups of equal files that are named
COLOR_SAMPLE = 12  # images that are looked at for color
COLOR_SPREAD = 0.06  # largest difference of red, green and blue of a gray pixel, of full scale
SHARED_FRACTION = 0.1  # of the images that share the beginning of their name, for a suggestion


def inspect_dataset(data: ManifestDataModule, folder: Path) -> Path:
    """Print what a checked data set holds, and write inspect.html and inspect.json.

    Args:
        data: The data set.
        folder: Folder of the run.

    Raises:
        ManifestError: Training would refuse the data set, such as for a leak.
    """
    data.cleaning = CleaningReport()  # what the check of all files has counted is counted again
    data.prepare_data()
    found = describe_dataset(data)
    table = terminal_table(show_header=False)
    for name, sentence in found["facts"].items():
        table.add_row(name, escape(sentence))
    Console(highlight=False).print(table)
    atomic_write(folder / "inspect.json", json.dumps(found, indent=2, default=str).encode())
    return write_data_page(data, found, folder)


def describe_dataset(data: ManifestDataModule) -> dict[str, Any]:
    """Describe a data set that was read without problems.

    Returns:
        Values of the page and of inspect.json: those of `describe_data`, and `facts`, heading ->
        sentence, which are also printed.
    """
    found = describe_data(data)
    facts = {**data.describe_reading(), **_describe_images(data, found), **_describe_sides(data)}
    table = data.table
    if "mask" in table.rows:
        facts |= _describe_masks(data)
    else:
        facts["classes"] = _describe_labels(data)
    facts["groups"] = describe_groups(data)
    facts["copies"] = _describe_copies(data)
    pairs = found["near_duplicates"]["pairs"]
    facts["near duplicates"] = (
        f"{_count(pairs, 'pair', 'pairs')} of nearly identical images in different splits, with"
        f" {_count(len(found['near_duplicates']['test_images']), 'test image', 'test images')};"
        " datamodule.split=group datamodule.near_duplicates=join keeps them together"
        if pairs
        else "no nearly identical images in different splits"
    )
    return found | {"facts": facts}


def short_description(data: ManifestDataModule) -> dict[str, str]:
    """Return the sentences of `describe_dataset` that every training run prints."""
    facts = data.describe_reading() | describe_color(data) | _describe_sides(data)
    if "mask" in data.table.rows:
        visibility = _visibility(data)
        if visibility.below[FEW_PIXELS[0]]:
            facts["small areas"] = visibility.describe(data.image_size)
    if data.table.group_is != "patient":
        facts["groups"] = describe_groups(data)
    return facts


def _describe_images(data: ManifestDataModule, found: Mapping[str, Any]) -> dict[str, str]:
    rows = data.table.rows
    splits = [split for split in SPLITS if split in found["splits"]]
    counts = ", ".join(f"{split} {found['splits'][split]['images']:,}" for split in splits)
    sizes = Counter(map(tuple, np.asarray(data.cache.sizes).tolist()))
    common = ", ".join(f"{h} x {w} ({n:,})" for (h, w), n in sizes.most_common(3))
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    spacing = spacing_matrix(data.table, np.arange(len(rows)))
    facts = {
        "images": f"{len(rows):,} ({counts})",
        "sizes": f"height x width in pixels: {common}{more}",
        "gray values": _describe_window(data),
        "the network sees": f"{data.image_size} px, {data.channels} channel"
        + "s" * (data.channels > 1),
        **describe_color(data),
    }
    if spacing is not None:
        low, high = spacing.min(), spacing.max()
        facts["pixel spacing"] = f"{low:.3g} mm" if low == high else f"{low:.3g} to {high:.3g} mm"
    return facts


def _describe_sides(data: ManifestDataModule) -> dict[str, str]:
    """Warn that mirrored images exchange classes whose names tell sides; empty without any."""
    sided = [name for name in data.table.classes if SIDED.search(name)]
    if not sided or "flip" not in getattr(data.augmentation, "transforms", {}):
        return {}
    return {
        "left and right": f"training mirrors images, which exchanges the sides of"
        f" {', '.join(sided)}; leave that out with datamodule.augmentation.transforms.flip=null"
    }


def describe_color(data: ManifestDataModule) -> dict[str, str]:
    """Say that colored images are read as gray ones; empty if they are gray, or read in color."""
    if data.channels != 1 or "slice" in data.table.rows:  # volumes are gray, and slow to open
        return {}
    rows = np.unique(np.linspace(0, len(data.table) - 1, COLOR_SAMPLE).astype(int)).tolist()
    colored = sum(_is_colored(data.table.read_image(row, 3).pixels) for row in rows)
    if 2 * colored <= len(rows):
        return {}
    return {
        "color": f"{colored} of {len(rows)} images that were looked at are in color and are read as"
        " gray; set datamodule.channels=3 module.net.in_channels=3 to keep the color"
    }


def _is_colored(pixels: np.ndarray) -> bool:
    """Return True if more than 1 % of the pixels of `H x W x 3` are no gray."""
    wide = pixels.astype(np.int32)
    spread = wide.max(2) - wide.min(2)
    return bool((spread > COLOR_SPREAD * np.iinfo(pixels.dtype).max).mean() > 0.01)


def _describe_window(data: ManifestDataModule) -> str:
    """Describe the depth of the images, and the window of those of more than 8 bits."""
    deep = int(np.count_nonzero(data.cache.deep))
    window = data.display_window()
    if not deep or window is None:
        return "8 bits, as stored"
    low, high = window
    others = "all" if deep == len(data.table) else f"{deep:,} of {len(data.table):,}"
    return (
        f"{others} have more than 8 bits: {low:g} is shown black and {high:g} white in each of them"
        " (datamodule.window)"
    )


def _describe_masks(data: ManifestDataModule) -> dict[str, str]:
    table, cache = data.table, data.cache
    areas, sizes = np.asarray(cache.areas), np.asarray(cache.sizes)
    lesions = find_lesions(cache, len(table.classes))
    pixels = sizes.astype(np.int64).prod(1).sum()
    parts = []
    for channel, name in enumerate(table.classes):
        shown = int((areas[:, channel] > 0).sum())
        count = int((lesions.classes == channel).sum())
        share = areas[:, channel].sum() / pixels
        parts.append(
            f"{name} in {shown:,} images ({count:,} separate areas, {share:.2%} of all pixels)"
        )
    empty = int((areas.sum(1) == 0).sum())
    kind = "exclusive (one class a pixel)" if table.exclusive else "may overlap"
    facts = {"classes": "; ".join(parts)}
    if len(table.classes) > 1:
        facts["classes"] += f"; they are {kind}" if table.exclusive else f"; they {kind}"
    facts["images with an empty mask"] = f"{empty:,}"
    facts["small areas"] = _visibility(data).describe(data.image_size)
    return facts


def _visibility(data: ManifestDataModule) -> Any:
    lesions = find_lesions(data.cache, len(data.table.classes))
    return lesion_visibility(lesions, np.asarray(data.cache.sizes), data.image_size)


def _describe_labels(data: ManifestDataModule) -> str:
    shows = present_classes(data.table, data.cache)
    parts = [
        f"{name} {int(count):,} ({count / max(1, len(shows)):.1%})"
        for name, count in zip(data.table.classes, shows.sum(0).tolist(), strict=True)
    ]
    rest = len(shows) - int(shows.any(1).sum())
    parts += [f"images without any class {rest:,}"] * bool(rest)
    kind = "one class per image: " if data.table.exclusive else ""
    return kind + ", ".join(parts)


def describe_groups(data: ManifestDataModule) -> str:
    """Describe the groups (patients), or how their names may tell them."""
    rows = data.table.rows
    if data.table.group_is == "patient":
        return f"{rows['group'].nunique():,} patients; their images stay in one split"
    often = int(rows["group"].duplicated(keep=False).sum())
    sentence = "patients are not known: images of one patient may be in several splits"
    if often:
        sentence += f" ({often:,} images are copies of an original and stay together)"
    pattern = suggest_pattern(rows["id"].tolist())
    if pattern is not None:
        groups, where = pattern
        sentence += f"; if {groups:,} names such as '{where}' are patients, set {GROUP_HINT}"
    return sentence


def suggest_pattern(ids: Sequence[str]) -> tuple[int, str] | None:
    """Return how many beginnings of names several images share, and one of them.

    None if nearly every image has a beginning of its own.
    """
    found = Counter(
        match.group(1) for id in ids if (match := PREFIX.match(id.rpartition("/")[2])) is not None
    )
    shared = sum(count for count in found.values() if count > 1)
    if len(found) < MIN_GROUPS or shared < SHARED_FRACTION * len(ids):
        return None
    return len(found), found.most_common(1)[0][0]


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _describe_copies(data: ManifestDataModule) -> str:
    """Name images whose files are equal, and those whose masks then differ."""
    digests = np.asarray(data.cache.digests)
    _, inverse, counts = np.unique(digests, return_inverse=True, return_counts=True)
    twice = [np.flatnonzero(inverse == n) for n in np.flatnonzero(counts > 1)[:MAX_COPIES]]
    copies = int((counts - 1).sum())
    if not copies:
        return "no two files are equal"
    ids = data.table.rows["id"].astype(str).to_numpy()
    named = "; ".join(" = ".join(ids[rows[:3]]) for rows in twice)
    sentence = f"{_count(copies, 'file is an exact copy', 'files are exact copies')}: {named}"
    if data.cache.has_masks:
        areas = np.asarray(data.cache.areas)
        odd = sum(bool((areas[rows] != areas[rows[:1]]).any()) for rows in twice)
        if odd:
            sentence += f"; {odd} of these have masks that differ"
    return sentence


def write_data_page(data: ManifestDataModule, found: dict[str, Any], folder: Path) -> Path:
    """Write inspect.html: pictures of the images with their masks, as the network sees them.

    Args:
        data: The data set.
        found: Result of `describe_dataset`.
        folder: Folder of the run.
    """
    chosen = choose_rows(data)
    window = data.display_window()
    dataset = ManifestDataset(data.cache, data.table, data.seed, window=window)
    shows = present_classes(data.table, data.cache)
    sections = {
        why: [
            _picture(data, row, shows[row], dataset[SampleKey(row, 0, 0, data.image_size)])
            for row in rows
        ]
        for why, rows in chosen.items()
    }
    several = len(data.table.classes) > 1 or "mask" in data.table.rows
    html = render(
        "inspect.html",
        {str(data.root.absolute()): data.root.name},
        title="data set",
        phantom=found["phantom"],
        heading=f"{found['image_kind'] or found['name']}: what was read",
        found={"data": found},
        sections=sections,
        augmented=_augmented_pictures(data, next(iter(chosen.values()))[:2]),
        classes=[
            {"name": name, "color": class_color(c)} for c, name in enumerate(data.table.classes)
        ]
        if several
        else [],
        has_masks="mask" in data.table.rows,
    )
    path = folder / "inspect.html"
    atomic_write(path, html.encode())
    return path


def choose_rows(data: ManifestDataModule) -> dict[str, list[int]]:
    """Return the rows that the page shows: reason -> rows, the suspicious ones first."""
    table, cache = data.table, data.cache
    sizes = np.asarray(cache.sizes)
    found: dict[str, list[int]] = {}
    suspicious = np.asarray(cache.nearly_uniform) | np.asarray(cache.soft_masks)
    blank = np.flatnonzero(np.asarray(cache.nearly_uniform)).tolist()
    found["images of nearly one gray value"] = blank
    if cache.has_masks:
        areas = np.asarray(cache.areas)
        share = areas.sum(1) / sizes.astype(np.int64).prod(1)
        found["masks that cover more than half of the image"] = np.flatnonzero(share > 0.5).tolist()
        smallest, largest = extreme_rows(areas, sizes, PICTURES_OF_EACH)
        found["smallest masks"], found["largest masks"] = smallest, largest
        found["masks with soft edges, cut at half"] = np.flatnonzero(
            np.asarray(cache.soft_masks)
        ).tolist()
    random = np.random.default_rng(data.seed).permutation(len(table))
    found["random images"] = [row for row in random.tolist() if not suspicious[row]] or (
        random.tolist()
    )
    return {why: rows[:PICTURES_OF_EACH] for why, rows in found.items() if rows}


def _picture(
    data: ManifestDataModule, row: int, shows: np.ndarray, sample: Sample
) -> dict[str, Any]:
    """Return a row's picture with its masks drawn on it, and its caption.

    Args:
        data: The data set.
        row: Number of the row.
        shows: Classes that the image shows, bool `classes`.
        sample: The row's sample, not augmented.
    """
    rows: Any = data.table.rows
    names = [name for name, here in zip(data.table.classes, shows, strict=True) if here]
    height, width = np.asarray(data.cache.sizes)[row].tolist()
    return {
        "url": data_url(_draw(sample), "jpeg"),
        "id": str(rows["id"].iat[row]),
        "split": str(rows["split"].iat[row]),
        "size": f"{height} x {width}",
        "classes": ", ".join(names) or "none",
    }


def _draw(sample: Sample) -> np.ndarray:
    """Return the image as BGR with its masks, enlarged or shrunk to MAX_SIDE."""
    pixels = sample["image"].numpy().transpose(1, 2, 0)
    picture = np.ascontiguousarray(
        pixels[..., ::-1] if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
    )
    scale = MAX_SIDE / max(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    picture = cv2.resize(
        picture, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    )
    if "mask" not in sample:
        return picture
    masks = [
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in sample["mask"].numpy()
    ]
    return fill_masks(picture, masks, opacity=0.25)


def _augmented_pictures(data: ManifestDataModule, rows: Sequence[int]) -> list[list[str]]:
    """Return each row's image and some augmented versions of it, as data URLs."""
    if data.augmentation is None:
        return []
    window = data.display_window()
    plain = ManifestDataset(data.cache, data.table, data.seed, window=window)
    augmented = ManifestDataset(data.cache, data.table, data.seed, data.augmentation, window=window)
    return [
        [data_url(_draw(plain[SampleKey(row, 0, 0, data.image_size)]), "jpeg")]
        + [
            data_url(_draw(augmented[SampleKey(row, epoch, 0, data.image_size)]), "jpeg")
            for epoch in range(AUGMENTED)
        ]
        for row in rows
    ]
