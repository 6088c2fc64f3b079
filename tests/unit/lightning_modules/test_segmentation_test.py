"""What a test measures on masks: the masks are those that the evidence decides on."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from datamodules.loading.letterbox import Letterbox, resize_image
from evaluation.evidence import SegmentationEvidence
from evaluation.metrics.surface_distance import SurfaceDistance
from lightning_modules.losses import BCELoss
from lightning_modules.segmentation import SegmentationModule

SIZES = [(40, 64), (64, 30), (64, 64)]


def make_module(**settings) -> SegmentationModule:
    module = SegmentationModule(
        classes=["a", "b"],
        net=nn.Conv2d(1, 2, 1),
        loss=BCELoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        **settings,
    )
    module.rule.values = torch.tensor([[150.0, 0.02, 120.0], [128.0, 0.0, 128.0]]).double()
    return module


def smooth(random, *size) -> np.ndarray:
    coarse = random.normal(size=(6, 6, 1)).astype(np.float32) * 6
    return resize_image(coarse, *size)[..., 0]


def make_batch(seed: int, sizes=SIZES, spacing=None):
    """Logits on a canvas of 64 pixels, and the batch whose pictures have the sizes."""
    random = np.random.default_rng(seed)
    logits = torch.tensor(np.array([[smooth(random, 64, 64) for _ in "ab"] for _ in sizes]))
    truth = [
        torch.tensor(np.array([smooth(random, *s) > 2 for s in "ab" for s in [size]])).byte()
        for size in sizes
    ]
    batch = {
        "id": [f"i{n}" for n in range(len(sizes))],
        "group": [f"p{n}" for n in range(len(sizes))],
        "truth": truth if len(set(sizes)) > 1 else torch.stack(truth),
        "content": [Letterbox(*size, 64).content for size in sizes],
    }
    return logits, batch | ({"spacing": spacing} if spacing else {})


def collect(module, stage) -> SegmentationEvidence:
    arrays = module._collector.collect()
    rule = module.rule.values.numpy()[None].repeat(len(arrays["ids"]), axis=0)
    return module.make_evidence(rule=rule, classes=module.classes, group_is="image", **arrays)


@pytest.mark.parametrize("sizes", [SIZES, [(64, 64)] * 3])
@pytest.mark.parametrize("spacing", [None, [(0.5, 0.25), (1.0, 1.0), (0.2, 0.4)]])
def test_distances_are_of_the_mask_at_the_rule_on_each_image_s_own_grid(sizes, spacing):
    module = make_module()
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(test_spacing=spacing))
    module.on_test_epoch_start()
    logits, batch = make_batch(3, sizes, spacing)
    module.update_predictions(logits, batch, "test")
    evidence = collect(module, "test")
    measurement = SurfaceDistance(unit="mm" if spacing else "px")
    assert [type(each) for each in evidence.used_measurements] == [SurfaceDistance]
    for c in range(2):
        decision = evidence.decision(c)
        for i in range(3):
            box = batch["content"][i]
            inside = logits[
                i : i + 1,
                c : c + 1,
                box.top : box.top + box.height,
                box.left : box.left + box.width,
            ]
            resized = nn.functional.interpolate(inside, sizes[i], mode="bilinear")[0, 0].numpy()
            byte = np.clip(np.floor((resized + 16) * 8), 0, 255)
            top, min_area, bottom = module.rule.values[c].tolist()
            mask = (byte >= bottom) & ((byte >= top).mean() >= min_area)
            true = batch["truth"][i][c].numpy() > 0
            assert mask.sum() == decision.pixels.tp[i] + decision.pixels.fp[i]
            expected = measurement.measure(mask, true, spacing[i] if spacing else None)
            np.testing.assert_allclose(evidence.measured[i, c], expected)
    assert (evidence.measured[..., 6] == 1).any() and (evidence.measured[..., 0] > 0).any()


def test_val_measures_nothing_and_neither_does_a_module_without_measurements():
    module = make_module()
    module.update_predictions(*make_batch(3), "val")
    evidence = collect(module, "val")
    assert evidence.measured.shape == (3, 2, 0) and not evidence.used_measurements
    module = make_module(measurements={"surface_distance": None})
    module.update_predictions(*make_batch(3), "test")
    assert collect(module, "test").measured.shape == (3, 2, 0)


def test_a_rank_that_tests_no_image_merges_with_one_that_does():
    some, none = make_module(), make_module()
    some.update_predictions(*make_batch(3), "test")
    parts = [collect(none, "test"), collect(some, "test")]
    merged = SegmentationEvidence.merge(parts)
    np.testing.assert_array_equal(merged.measured, parts[1].measured)
    assert merged.used_measurements and len(merged) == 3


def test_mm_that_nobody_knows_are_refused_before_the_fit():
    module = make_module(measurements={"surface_distance": {"unit": "mm"}})
    table = SimpleNamespace(classes=module.classes)
    data = SimpleNamespace(test_spacing=None, table=table)
    module.trainer = SimpleNamespace(datamodule=data)
    with pytest.raises(ValueError, match=r"module\.measurements\.surface_distance\.unit=mm needs"):
        module.setup("validate")
