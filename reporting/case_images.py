"""Render the images of the report's cases."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from evaluation.rule_modules import DecisionRule
from lightning_modules.base import EvaluatedModule
from reporting.cases import SIDE, Case, data_url, display_gamma, visible_channels
from reporting.task_view import TASK_VIEWS, TaskView


def can_run_locally(trainer: Trainer) -> bool:
    """Return whether a process can run the network alone; False if its weights are sharded."""
    return not isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy)


def predict_logits(trainer: Trainer, module: LightningModule, image: Tensor) -> Tensor:
    """Compute float32 logits `B x classes ...` on the CPU, in the precision of the test.

    Args:
        trainer: Sets the precision.
        module: Takes uint8 images `B x C x H x W`.
        image: uint8 `B x C x H x W`, or a single one without B.
    """
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        return module((image if image.dim() == 4 else image[None]).to(module.device)).float().cpu()


# longest side in pixels of an enlarged picture; at most the size of the network's input
MAX_SIDE = 384
MAX_PIXELS = 1_500_000  # of all byte maps of a page


def render_cases(trainer: Trainer, module: EvaluatedModule, cases: Sequence[Case]) -> list[Case]:
    """Return the cases with panes and maps; none if no process holds the whole network.

    Args:
        trainer: Trainer whose datamodule has the images.
        module: Module with evidence of test.
        cases: Cases without pictures, images of test.
    """
    if cases and not can_run_locally(trainer):
        print(
            "the page shows no cases, because the weights are sharded over the processes; test"
            " again with trainer.strategy=auto",
            file=sys.stderr,
        )
        return []
    if not cases:
        return []
    data = trainer.datamodule  # type: ignore[attr-defined]
    batch = data.dataset(evaluation=True).batch(
        [case.id for case in cases], data.current_image_size()
    )
    logits = _case_logits(trainer, module, batch["image"], max(1, data.eval_batch_size))
    kind, side = TASK_VIEWS[module.evidence["test"].kind], map_side(cases)
    return [
        render_case(case, kind, batch, i, of_image, module.rule, side)
        for i, (case, of_image) in enumerate(zip(cases, logits, strict=True))
    ]


def map_side(cases: Sequence[Case]) -> int:
    """Return the longest side of a byte map in pixels, smaller the more maps a page has."""
    return min(SIDE, math.isqrt(MAX_PIXELS // max(1, sum(len(case.channels) for case in cases))))


def _case_logits(
    trainer: Trainer, module: EvaluatedModule, images: Tensor, at_once: int
) -> Iterator[Tensor]:
    """Yield the logits of one image after the other, `1 x classes ...`."""
    for few in images.split(at_once):
        yield from predict_logits(trainer, module, few).split(1)


def render_case(
    case: Case, kind: TaskView, batch: Any, i: int, logits: Tensor, rule: DecisionRule, side: int
) -> Case:
    """Return a case with its panes and maps.

    Args:
        case: The case without pictures.
        kind: View of its task.
        batch: Holds its image.
        i: Index in the batch.
        logits: `1 x classes ...` of this image.
        rule: The current decision rule.
        side: Longest side of a map in pixels.
    """
    panes = kind.render_panes(batch, i, logits, rule)
    large = kind.render_image(batch, i, min(MAX_SIDE, max(batch["content"][i][2:])))
    maps, size = kind.encode_logit_maps(batch, i, logits, case.channels, side, rule)
    # for print and without scripts
    still = {title: data_url(pixels, "jpeg") for title, pixels in panes.items() if title != "image"}
    gamma = display_gamma(visible_channels(batch["image"][i][batch["content"][i].slices].numpy()))
    return replace(
        case, panes={"image": data_url(large)} | still, maps=maps, size=size, gamma=gamma
    )
