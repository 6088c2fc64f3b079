"""Segmenter with SAM 2 (Ravi et al. 2024) of transformers, prompted with boxes.

A MedSAM2 in the same format can be loaded from a local folder.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from datamodules.arguments import FilePath, validated
from datamodules.errors import UserError
from lightning_modules.pretrained.reading import read_weights
from lightning_modules.pretrained.requests import SAM2_ALTERNATIVE, SAM2_KEY, sam2_request
from lightning_modules.pretrained.resolver import resolve
from weak_supervision.segmenters.base import CONFIG_KEY, Masks, box_to_slices, empty_masks

SUPPORTED_MODEL_TYPES = (
    "sam2",
    "sam2_video",
)  # published checkpoints belong to the video model, and the image model reads a part of them
REQUIRED_FILES = "config.json, model.safetensors and processor_config.json"
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@validated
class SAM2Segmenter:
    """SAM 2 segmenter, which segments all boxes of an image in one forward.

    Weights are read when it is constructed, and moved to the device at the first image. The gray
    image is copied to all three channels and stretched to the square that the model was trained on.
    A mask is cut at the border of its box unless `margin` allows more; it may have several pieces.
    Its score is the IoU that the model predicts.

    Example:
        callbacks:
          pseudo_labels:
            segmenter:
              _target_: weak_supervision.segmenters.sam2.SAM2Segmenter
              weights: /folder/with/medsam2

    Args:
        weights: A SAM 2 of the hub, or a local folder (config.json, model.safetensors and the
            processor's JSON).
        weights_folder: Folder of pretrained weights that is searched first; None for none.
        device: `cpu`, `cuda`, `cuda:1`, ...; None uses a GPU if there is one.
        autocast: `bf16` or `fp16`; None computes in float32.
        multimask: True to predict three masks per box and use the one with the largest predicted
            IoU.
        peaks: True to use the heat map's peak in each box as a prompt too.
        margin: Growth of the box that limits the mask on each side, as a fraction of its width or
            height; the prompt is not changed.

    Raises:
        UserError: Weights cannot be downloaded or read or belong to another model, `autocast` or
            the device is unknown, or the margin is impossible.
    """

    def __init__(
        self,
        weights: str = "facebook/sam2.1-hiera-tiny",
        weights_folder: FilePath | None = None,
        device: str | None = None,
        autocast: Literal["bf16", "fp16"] | None = None,
        multimask: bool = False,
        peaks: bool = False,
        margin: Annotated[float, Field(ge=0, le=10)] = 0.0,
    ) -> None:
        self.device = _resolve_device(device)
        self.autocast = None if autocast is None else AUTOCAST_DTYPES[autocast]
        self.multimask, self.peaks, self.margin = multimask, peaks, margin
        self.model, self.processor = _load_model(weights, weights_folder)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Masks:
        """Segment each box, see `Segmenter`."""
        if len(boxes) == 0:
            return empty_masks(image)
        prompts: dict[str, Any] = {"input_boxes": [np.asarray(boxes, float).tolist()]}
        if self.peaks:
            prompts |= {
                "input_points": [[[point] for point in np.asarray(points, float).tolist()]],
                "input_labels": [[[1]] * len(points)],
            }
        given = self.processor(images=np.dstack([image] * 3), return_tensors="pt", **prompts)
        sizes = given.pop("original_sizes")
        self.model.to(self.device)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            output = self.model(**given.to(self.device), multimask_output=self.multimask)
        scores, logits = (
            output.iou_scores[0].float().cpu(),
            output.pred_masks[0].float().cpu(),
        )  # boxes x masks, boxes x masks x h x w
        best = scores.argmax(1)
        found = np.zeros((len(boxes), *image.shape), bool)
        for i, box in enumerate(
            np.asarray(boxes, float)
        ):  # one by one, because logits at the image's own size are large
            mask = self.processor.post_process_masks([logits[i, best[i]][None, None]], sizes)[0][
                0, 0
            ].numpy()
            part = box_to_slices(box, image.shape, self.margin)
            found[i][part] = mask[part]
        sure = scores.gather(1, best[:, None])[:, 0].numpy()
        return Masks(found, np.where(found.any((1, 2)), sure, 0).astype(np.float32))


def _resolve_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"{CONFIG_KEY}.segmenter.device={name} is not a device of torch; set cpu, cuda or null"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{CONFIG_KEY}.segmenter.device={name} is not here: torch sees"
            f" {torch.cuda.device_count()} GPUs; take cpu or null"
        )
    return device


def _load_model(weights: str, weights_folder: str | Path | None) -> tuple[Any, Any]:
    """Load the model, in evaluation mode, and its processor."""
    from transformers import AutoConfig, Sam2Model, Sam2Processor

    found: Any = resolve(sam2_request(weights, weights_folder))
    folder = found.path.parent
    read_weights(found.path, SAM2_KEY)
    try:
        kind = AutoConfig.from_pretrained(folder).model_type
        if kind not in SUPPORTED_MODEL_TYPES:
            raise UserError(
                f"{SAM2_KEY}={weights} is a {kind} and no SAM 2; name another, or"
                f" {SAM2_ALTERNATIVE}"
            )
        processor = Sam2Processor.from_pretrained(folder)
        read: Any = Sam2Model.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
        raise UserError(
            f"{SAM2_KEY}={weights}: no SAM 2 can be read from {folder} ({reason}); it needs"
            f" {REQUIRED_FILES} by save_pretrained"
        ) from error
    model, about = read
    lacking = sorted(about["missing_keys"])  # weights that the library initializes at random
    if lacking:
        raise UserError(
            f"{SAM2_KEY}={weights} lacks {len(lacking)} of the model's weights (the first is"
            f" {lacking[0]}); name another, or {SAM2_ALTERNATIVE}"
        )
    return model.eval(), processor
