"""The columns of the table of images: each class has its own numbers, in the order of classes."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import f1_score

from reporting.image_table import classification_columns, segmentation_columns
from tests.factories.run_folder import labels
from tests.unit.evaluation.metrics.test_segmentation import RULES, evidence_of


def test_probabilities_stand_under_their_own_class():
    seen = labels(classes=3)
    (column,) = classification_columns(seen)
    assert len(column["of"]) == len(seen.classes) == 3
    for c, values in enumerate(column["of"]):
        assert values == pytest.approx(seen.probability[:, c], abs=1e-4)
    assert len({tuple(values) for values in column["of"]}) == 3


def test_the_truth_decision_and_outcome_of_classes_that_exclude_one_another():
    seen = replace(labels(classes=3, noise=1.0), exclusive=True)
    truth = torch.arange(len(seen)) % 3
    seen = replace(seen, labels=torch.nn.functional.one_hot(truth, 3).numpy().astype("uint8"))
    columns = {column["title"]: column["values"] for column in classification_columns(seen)}
    softmax = torch.softmax(torch.from_numpy(seen.logits), 1)
    assert columns["truth"] == [f"c{c}" for c in truth.tolist()]
    assert columns["decision"] == [f"c{c}" for c in softmax.argmax(1).tolist()]
    assert columns["probability of the decision"] == pytest.approx(softmax.amax(1), abs=1e-4)


def test_each_class_has_the_dice_and_the_lesion_area_of_its_own_masks():
    random = torch.Generator().manual_seed(0)
    truth = (torch.rand(5, 2, 16, 16, generator=random) > 0.6).to(torch.uint8)
    truth[:, 1, 8:] = 0
    logits = 4 * truth - 2 + 3 * torch.randn(5, 2, 16, 16, generator=random)
    seen = replace(evidence_of(logits, truth, rule=[RULES[0]] * 2), classes=("a", "b"))
    score, area = segmentation_columns(seen)
    for c in range(2):
        inside = truth[:, c].flatten(1).numpy()
        said = (logits[:, c] >= 0).flatten(1).numpy()
        by_hand = [f1_score(one, other) for one, other in zip(inside, said, strict=True)]
        assert score["of"][c] == pytest.approx(by_hand, abs=0.02)  # of logits in 256 steps
        assert area["of"][c] == pytest.approx(100 * inside.mean(1), abs=1e-3)
