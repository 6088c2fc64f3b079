"""The module of exclusive classes: what it refuses, logs and measures, and its ensembles."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from callbacks.threshold_search import SegmentationThresholdSearch
from datamodules.errors import UserError
from datamodules.loading.letterbox import Letterbox
from evaluation.bootstrap import CLASS_MEAN, bootstrap_metrics
from evaluation.evidence import SegmentationEvidence
from evaluation.metrics.surface_distance import SurfaceDistance
from evaluation.rule_modules import ExclusiveSegmentationRule, SegmentationRule
from lightning_modules.ensemble import MAX_LOGIT, Ensemble
from lightning_modules.losses import BCELoss, DiceCrossEntropyLoss, DiceLoss, WeightedLoss
from tests.factories.exclusive_masks import batch_of, collect, evidence_of, make_module, scene
from tests.unit.lightning_modules.test_ensemble import Fixed, lopsided
from tests.unit.lightning_modules.test_segmentation_test import smooth


def test_one_class_is_refused():
    with pytest.raises(UserError, match=r"module\.exclusive=true needs two or more classes"):
        make_module(1)


@pytest.mark.parametrize(
    "loss",
    [BCELoss(), WeightedLoss({"a": DiceLoss()}, {"a": 1.0}), DiceCrossEntropyLoss(exclusive=False)],
)
def test_a_loss_of_overlapping_classes_is_refused(loss):
    with pytest.raises(UserError, match="exclusive=true, but the loss is for overlapping") as error:
        make_module(loss=loss)
    assert "module/loss=dice_cross_entropy" in str(error.value)


def test_the_reverse_is_refused_too():
    with pytest.raises(UserError, match="exclusive=false, but the loss is for exclusive") as error:
        make_module(exclusive=False)
    assert "module/loss=dice_cross_entropy" in str(error.value)


@pytest.mark.parametrize("name", ["val/average_precision", "val/dice_at_half"])
def test_a_monitored_score_that_needs_a_threshold_is_refused(name):
    with pytest.raises(UserError, match=f"{name} does not exist for exclusive classes"):
        make_module(monitor={"name": name, "mode": "max"})


@pytest.mark.parametrize("exclusive", [False, True])
def test_data_whose_classes_may_overlap_are_refused(exclusive):
    module = make_module()
    table = SimpleNamespace(classes=module.classes, exclusive=exclusive)
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(table=table, cache=None))
    if exclusive:
        module.setup("validate")
    else:
        with pytest.raises(UserError, match="classes of this data may overlap"):
            module.setup("validate")
        module.setup("predict")  # a folder of images says nothing about classes


def test_the_logged_scores_are_the_means_over_classes_of_the_report():
    evidence = evidence_of(3, images=12)[0]
    logged = make_module().monitored_metrics(evidence)
    mean = bootstrap_metrics(evidence, 5)[CLASS_MEAN]
    assert set(logged) == {"dice", "dice_lesions", "pixel_accuracy"}
    for name, value in logged.items():
        assert value == pytest.approx(mean[name].value)


def test_no_rule_is_searched_and_the_report_says_so():
    evidence = evidence_of(3)[0]
    search = SegmentationThresholdSearch(top=(0.5, 0.9), min_area=[0.0, 0.1], lesions_only=True)
    assert search.search_rule(evidence).tolist() == [[128.0, 0.0, 128.0]] * 3
    expected = {"objective": "argmax, nothing searched"}
    expected |= dict.fromkeys(("score", "at_half", "warning"))
    assert search.found == [expected] * 3


def test_the_rule_of_a_checkpoint_of_overlapping_classes_is_not_taken_over():
    searched, rule = SegmentationRule(3), ExclusiveSegmentationRule(3)
    searched.values += 7
    rule.load_state_dict(searched.state_dict())
    assert rule.values.tolist() == [[128.0, 0.0, 128.0]] * 3 and rule.as_dict() == [{}] * 3


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("sizes", [[(40, 64), (64, 30), (64, 64)], [(64, 64)] * 3])
def test_ignored_pixels_are_neither_predicted_nor_true_in_what_is_measured(exclusive, sizes):
    random = np.random.default_rng(5)
    loss = DiceCrossEntropyLoss(exclusive=exclusive)
    module = make_module(2, exclusive=exclusive, loss=loss)
    if not exclusive:
        module.rule.values = torch.tensor([[150.0, 0.1, 120.0], [128.0, 0.0, 128.0]]).double()
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(test_spacing=None))
    module.on_test_epoch_start()
    logits = torch.tensor(np.array([[smooth(random, 64, 64) for _ in "ab"] for _ in sizes]))
    truth = [torch.tensor(np.array([smooth(random, *s) > 2 for _ in "ab"])).byte() for s in sizes]
    ignored = [torch.tensor(smooth(random, *s) > 3)[None].byte() for s in sizes]
    same = len(set(sizes)) == 1
    batch = batch_of(truth[0][None]) | {
        "id": ["i0", "i1", "i2"],
        "group": ["i0", "i1", "i2"],
        "truth": torch.stack(truth) if same else truth,
        "truth_ignored": torch.stack(ignored) if same else ignored,
        "content": [Letterbox(*s, 64).content for s in sizes],
    }
    module.update_predictions(logits, batch, "test")
    evidence = collect(module, "test")
    measurement = SurfaceDistance(unit="px")
    for i, size in enumerate(sizes):
        inside = logits[i : i + 1][batch["content"][i].slices]
        resized = torch.nn.functional.interpolate(inside, size, mode="bilinear")
        kept = ignored[i][0].numpy() == 0
        masks = module.rule(resized, ignored[i][None])[0].numpy()
        assert not masks[:, ~kept].any()
        if not exclusive:  # the fraction of the rule is that of the pixels that count
            byte = np.clip(np.floor((resized[0, 0].numpy() + 16) * 8), 0, 255)
            shown = (byte >= 150)[kept].mean() >= 0.1
            assert np.array_equal(masks[0], (byte >= 120) & shown & kept)
        for c in range(2):
            true = (truth[i][c].numpy() > 0) & kept
            if exclusive and c == 1:
                true &= truth[i][0].numpy() == 0
            pixels = evidence.decision(c).pixels
            assert pixels.tp[i] == (masks[c] & true).sum()
            assert pixels.fp[i] == (masks[c] & ~true).sum()
            assert sum(part[i] for part in pixels) == kept.sum()
            expected = measurement.measure(masks[c], true, None)
            np.testing.assert_allclose(evidence.measured[i, c], expected)
    assert (evidence.measured[..., 0] > 0).any()
    assert "hd95" in evidence.headline_metrics


def test_a_process_without_images_merges_with_one_that_has_some():
    some, none = make_module(), make_module()
    logits, truth, ignored = scene(1, ignored=0.2)
    some.update_predictions(logits, batch_of(truth, ignored), "val")
    parts = [collect(none), collect(some)]
    merged = SegmentationEvidence.merge(parts)
    assert len(merged) == 6 and np.array_equal(merged.calibration, parts[1].calibration)


def test_an_ensemble_averages_the_softmax_with_the_background_and_mirrors_back():
    image, nets = torch.randn(2, 1, 5, 8), [lopsided(3, seed=seed) for seed in range(3)]

    def probability(logits):
        every = np.pad(logits.detach().double().numpy(), ((0, 0), (1, 0), (0, 0), (0, 0)))
        return softmax(every, axis=1)

    views = [probability(net(image)) for net in nets]
    mirrored = [probability(net(image.flip(3)))[..., ::-1] for net in nets]
    for flip, each in ((False, views), (True, views + mirrored)):
        mean = np.mean(each, 0)
        found = Ensemble(nets, tta="hflip" if flip else "none", exclusive_masks=True)(image)
        assert probability(found) == pytest.approx(mean, abs=1e-6)
        expected = mean.argmax(1)[:, None] == np.array([1, 2, 3])[:, None, None]
        assert np.array_equal(ExclusiveSegmentationRule(3)(found).numpy(), expected)
    assert torch.equal(Ensemble([nets[0]], exclusive_masks=True)(image), nets[0](image))


def test_far_logits_of_exclusive_classes_stay_finite():
    far = torch.tensor([torch.inf, -torch.inf, 300.0]).view(1, 3, 1, 1)
    other = torch.tensor([-torch.inf, torch.inf, -300.0]).view(1, 3, 1, 1)
    found = Ensemble([Fixed(far), Fixed(far)], exclusive_masks=True)(torch.zeros(1, 1, 1, 1))
    assert torch.isfinite(found).all() and found.abs().max() <= MAX_LOGIT
    assert ExclusiveSegmentationRule(3)(found).flatten().tolist() == [True, False, False]
    both = Ensemble([Fixed(far), Fixed(other)], exclusive_masks=True)(torch.zeros(1, 1, 1, 1))
    assert torch.isfinite(both).all()
