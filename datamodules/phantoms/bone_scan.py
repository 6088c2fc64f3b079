"""Phantom patients with and without bone lesions, an anterior and a posterior scan each.

They are written in the layout of BS-80K.
"""

from pathlib import Path

import numpy as np

from datamodules.arguments import Count, Fraction, NonNegative, PositiveRange, Whole, validated
from datamodules.phantoms.bone_counts import Visibility
from datamodules.phantoms.bone_examination import examine
from datamodules.phantoms.bone_layout import Layout
from datamodules.phantoms.bone_lesions import Lesions
from datamodules.phantoms.folder import written_once
from datamodules.refusal import UserError

SHORTEST = 128  # rows below which ribs can no longer be told apart


@validated
def write(
    root: Path,
    patients: Count = 300,
    height: Count = 384,
    abnormal: Fraction = 0.5,
    counts: PositiveRange = (4e5, 1.8e6),
    uptake: NonNegative = 1.0,
    extent: NonNegative = 1.0,
    urine: NonNegative = 1.0,
    visible_contrast: NonNegative = 0.35,
    visible_rose: NonNegative = 5.0,
    visible_greys: NonNegative = 4.0,
    mask_share: Fraction = 0.4,
    seed: Whole = 0,
) -> None:
    """Write whole-body scans below `root`, once, with their labels, boxes and some regions.

    `masks/` is written too, which the real set lacks.

    As in the real set: the number of a file is that of the patient in all folders, an XML exists
    for healthy scans too and a few are missing, what is hot and healthy has boxes named Normal,
    some bright spots overflow, and one patient is there twice, see `twins`.

    Args:
        root: The folder to write; left alone when it holds the same phantoms already.
        patients: How many; each has two scans.
        height: Of the scans in pixels, 1024 in the real set; they are a quarter as wide.
        abnormal: Share of patients with 1 to 8 lesions; all have one that is seen in one view at
            least, so that fewer images than patients are abnormal. In the real set 36 % of the
            anterior and 32 % of the posterior images are.
        counts: Least and most counts of skeleton and soft tissue in the anterior view.
        uptake: Factor of all lesions' uptake; 1 ranges from subtle to hot, more compensates for few
            images or few pixels.
        extent: Factor of all lesions' diameters, 1 for about 1.5 to 6.5 cm; more compensates too.
        urine: Factor of the tracer in bladder, kidneys and spilt urine, and at the injection site;
            more of it outshines the lesions.
        visible_contrast: Least ratio of a lesion's counts to all others in its mask for it to count
            as seen in a view.
        visible_rose: Least signal-to-noise ratio there for it to count as seen.
        visible_greys: Least number of grey levels of its peak for it to count as seen.
        mask_share: Share of a lesion's peak above which a pixel belongs to its mask.
        seed: Source of everything random.

    Raises:
        Refusal: An argument is invalid, lesions of this uptake are never seen, or `root` exists
            and holds no phantoms.
    """
    _check(height)
    numbers = {
        "patients": patients,
        "height": height,
        "abnormal": abnormal,
        "counts": [float(count) for count in counts],
    }
    numbers |= {"uptake": uptake, "extent": extent, "urine": urine}
    numbers |= {
        "visible": [visible_contrast, visible_rose, visible_greys, mask_share],
        "seed": seed,
        "version": 1,
        "set": "bone_scan",
    }
    visibility = Visibility(visible_contrast, visible_rose, visible_greys, mask_share)
    with written_once(root, numbers) as folder:
        if folder is None:
            return
        ill = np.random.default_rng([seed, 0]).permutation(patients) < round(abnormal * patients)
        originals = {last: first for first, last in twins(patients)}
        layout = Layout(folder)
        for number in range(1, patients + 1):
            drawn = originals.get(number, number)
            random = np.random.default_rng([seed, drawn])
            scans = examine(
                random,
                height,
                bool(ill[drawn - 1]),
                (counts[0], counts[1]),
                Lesions(uptake, extent),
                urine,
                visibility,
            )
            layout.write(number, scans, random)
        layout.close()


def twins(patients: int) -> list[tuple[int, int]]:
    """Return the pairs of numbers that are one patient with identical images.

    There is one pair (the real set has four), and none among fewer than four patients.
    """
    return [(2, patients)] if patients >= 4 else []


def _check(height: int) -> None:
    place = "datamodule.phantom"
    if height < SHORTEST or height % 4:
        raise UserError(
            f"{place}.height={height} is no height of a scan four times as high as wide; set a"
            f" multiple of 4 from {SHORTEST} on, as 384"
        )
