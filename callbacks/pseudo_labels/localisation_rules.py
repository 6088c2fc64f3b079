"""By what rules localisation is scored, and one sentence for each score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from datamodules.arguments import Count, NonNegative, Number, Positive, Whole, validated
from lightning_modules.uncertainty import RESAMPLES

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@validated
@dataclass(frozen=True)
class LocalizationConfig:
    """The rules; they are the same for all methods that are compared.

    ```yaml
    rules: {_target_: callbacks.pseudo_labels.localisation_rules.LocalizationConfig, tolerance: 0,
        iou: 0.1, budgets: 5}
    ```

    Args:
        tolerance: Pixels beside a lesion at which the pointing game still counts a peak; 15 is
            common on photographs of about 500 pixels.
        iou: Intersection over union from which on a box hits a lesion. Low, because boxes of a
            fixed size say where, not how large.
        max_boxes: Hit rates are given for the first 1, 2, ... so many boxes of an image.
        rates: False positives an image at which the FROC is read; the seven of Niemeijer et al.
            2011 and LUNA16.
        froc_auc_limit: False positives an image up to which the partial area below the FROC goes.
        resamples: Draws of the patients.
        seed: Of the draws; methods are compared on the same ones.

    Raises:
        Refusal: a rule out of its range.
    """

    tolerance: NonNegative = 0.0
    iou: Annotated[Number, Field(gt=0, le=1)] = 0.1
    max_boxes: Count = 5
    rates: Annotated[Sequence[Positive], Field(min_length=1)] = FROC_RATES
    froc_auc_limit: Positive = 1.0
    resamples: Count = RESAMPLES
    seed: Whole = 0

    def definitions(self) -> dict[str, str]:
        """Score -> its definition, in the order of a table."""
        off = f" or within {self.tolerance:g} pixels of it" if self.tolerance else ""
        found = {
            "pointing_box": (
                f"share of images with a lesion whose heat map's maximum lies in a true box{off};"
                " no maximum is a miss"
            ),
            "pointing_mask": (
                f"share of images with a true mask whose heat map's maximum lies in it{off}; no"
                " maximum is a miss"
            ),
        }
        hit = {"iou": f"by IoU of {self.iou:g} or more", "centre": "by its centre within their box"}
        for b in range(1, self.max_boxes + 1):
            first = "the first box" if b == 1 else f"one of the first {b} boxes"
            found |= {
                f"hit_rate_{kind}_at_{b}": (
                    f"share of lesions that {first} of their image hits {how}"
                )
                for kind, how in hit.items()
            }
            found |= {
                f"image_hit_{kind}_at_{b}": (
                    f"share of images with a lesion of which {first} hits one or more {how}"
                )
                for kind, how in hit.items()
            }
            found[f"iou_at_{b}"] = (
                f"mean over lesions of the best IoU of {first} of their image; 0 without a box"
            )
        rule = (
            f"a box is true by its centre within a lesion's box or IoU of {self.iou:g} or more; of"
            " several on one lesion one counts, none is false"
        )
        for rate in self.rates:
            found[froc_score_name(rate)] = (
                f"share of lesions found at {rate:g} false positives an image, over all images;"
                f" {rule}"
            )
        return found | {
            "froc_mean": (
                f"mean of the sensitivities at {', '.join(f'{rate:g}' for rate in self.rates)}"
                " false positives an image (CPM)"
            ),
            "froc_area": (
                f"mean sensitivity over 0 to {self.froc_auc_limit:g} false positives an image (partial"
                " area below the FROC)"
            ),
            "dice": (
                "mean Dice of pseudo mask and true mask over images with a true mask; an image"
                " without a pseudo mask counts 0"
            ),
            "dice_drawn": "the same mean over those of them that have a pseudo mask",
        }


def froc_score_name(rate: float) -> str:
    """Name of the sensitivity at so many false positives an image."""
    return f"froc_at_{rate:g}"
