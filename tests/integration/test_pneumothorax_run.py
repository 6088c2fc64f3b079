"""Tests of pneumothorax from the command line: predictions, ensembles and mirrored views."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from datamodules.formats.image_io import read_image
from datamodules.formats.rle import decode_rle, decode_siim
from datamodules.loading.letterbox import Letterbox
from datamodules.pneumothorax import read_siim_csv
from evaluation.evidence import read_evidence
from lightning_modules.instantiation import instantiate_config
from tests.conftest import SMALL_PNX, refused
from tests.factories.finished_run import finish_run

CALLBACKS = (
    "callbacks=[checkpoint,curriculum,threshold_search/segmentation,sampling_monitor,nonfinite_loss,predictions,"
    "report]"
)
WORDS = [
    *SMALL_PNX[:-1],
    CALLBACKS,
    "extra=top_checkpoints",
    # another size than image_size
    "callbacks.curriculum.stages=[{epochs:3,lr:3e-3,image_size:96,positive_fraction:0.7}]",
    "callbacks.threshold_search={top:null,bottom:[0.05,0.95],min_area:[0.0,0.01],lesions_only:true}",
    "callbacks.top_checkpoints.save_top_k=2",
    "evaluation_size=native",
    "datamodule.cache_size=96",
    "trainer.max_epochs=3",
    "trainer.precision=32-true",
]
CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def trained(thorax, tmp_path_factory):
    """A run at 96 pixels that was fitted, tested and predicted with in one go."""
    words = [*WORDS, f"datamodule.root={thorax}", "do=[fit,test,predict]"]
    return finish_run(words, tmp_path_factory.mktemp("trained") / "run")


def masks_of(folder: Path) -> dict[str, np.ndarray]:
    files = sorted((folder / "predictions/masks").glob("*.png"))
    return {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files}


def scores_of(folder: Path, split: str) -> dict:
    return json.loads((folder / "report.json").read_text())["scores"][split]["pneumothorax"]


def logits_by_hand(
    checkpoints: list[Path], files: dict[str, Path], flip: bool = False
) -> dict[str, np.ndarray]:
    """Return the logit of the mean probability of members and views, at image size, in float64."""
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", WORDS)
    modules = [instantiate_config(cfg.module).eval() for _ in checkpoints]
    for module, path in zip(modules, checkpoints, strict=True):
        module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    found = {}
    for id, file in files.items():
        pixels = read_image(file, 1)
        place = Letterbox(*pixels.shape[:2], 96)
        canvas = torch.from_numpy(place.image(pixels)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            views = [module(canvas).double().sigmoid() for module in modules]
            views += [
                module(canvas.flip(3)).double().sigmoid().flip(3) for module in modules if flip
            ]
        top, left, height, width = place.content
        mean = torch.stack(views).mean(0)[..., top : top + height, left : left + width]
        found[id] = F.interpolate(
            mean.logit(), pixels.shape[:2], mode="bilinear", align_corners=False
        )[0, 0].numpy()
    return found


def drawn(logits: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """The rule (top, min_area, bottom) on bytes, by its definition."""
    byte = np.clip(np.floor((logits + 16) * 8), 0, 255)
    return (byte >= rule[2]) & ((byte >= rule[0]).mean() >= rule[1])


def files_of(folder: Path, root: Path, split: str) -> dict[str, Path]:
    paths = {path.stem: path for path in root.rglob("*.dcm")}
    return {str(id): paths[str(id)] for id in read_evidence(folder / f"evidence/{split}.npz").ids}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum()) if (one | other).any() else 1.0


def truth_of(root: Path, id: str) -> np.ndarray:
    rle = decode_siim(read_siim_csv(root / "train-rle.csv")[id], 64, 64)
    return decode_rle([rle], 64, 64)[..., 0] > 0


def rule_of(checkpoint: Path) -> np.ndarray:
    return torch.load(checkpoint, weights_only=True)["state_dict"]["rule._extra_state"].numpy()[0]


def test_predictions_are_masks_at_the_images_own_size_and_the_same_in_the_table(
    trained, thorax, cli, tmp_path
):
    masks, files = masks_of(trained), files_of(trained, thorax, "test")
    table = read_siim_csv(trained / "predictions/submission.csv")
    assert sorted(table) == sorted(masks) == sorted(files) and all(
        len(texts) == 1 for texts in table.values()
    )
    rule, by_hand = (
        rule_of(trained / "checkpoints/best.ckpt"),
        logits_by_hand([trained / "checkpoints/best.ckpt"], files),
    )
    for id, mask in masks.items():
        assert np.array_equal(
            decode_rle([decode_siim(table[id], *mask.shape)], *mask.shape)[..., 0] * 255, mask
        )
        # but for pixels within .02 of a byte's edge, where one sum rounds up and another down
        differs = (drawn(by_hand[id], rule) != (mask > 0)) & (
            np.abs((by_hand[id] + 16) * 8 - np.rint((by_hand[id] + 16) * 8)) > 0.02
        )
        assert not differs.any() and mask.shape == (64, 64), (differs.sum(), id)
    assert (
        0 < np.mean([mask.any() for mask in masks.values()])
        and 0 < np.mean([mask.mean() for mask in masks.values()]) < 250
    )
    mean = np.mean([dice(masks[id] > 0, truth_of(thorax, id)) for id in masks])
    assert scores_of(trained, "test")["dice"]["value"] == pytest.approx(mean)

    again = ["do=[predict]", f"ckpt_path={trained}", f"datamodule.root={thorax}"]
    code, said = cli(*WORDS, *again, folder=tmp_path / "again")
    assert code == 0, said
    assert (tmp_path / "again/predictions/submission.csv").read_bytes() == (
        trained / "predictions/submission.csv"
    ).read_bytes()
    assert all(np.array_equal(mask, masks[id]) for id, mask in masks_of(tmp_path / "again").items())
    hard = [
        "datamodule/sampling=hard",
        "datamodule.cls_prob=latest:preclassify_pnx",
    ]  # nothing of it is needed
    code, said = cli(
        *WORDS,
        *again,
        *hard,
        "callbacks.predictions.rle_encoding=absolute",
        "callbacks.predictions.masks=false",
        folder=tmp_path / "starts",
    )
    assert code == 0 and not (tmp_path / "starts/predictions/masks").exists(), said
    starts = read_siim_csv(tmp_path / "starts/predictions/submission.csv")
    assert all(
        np.array_equal(
            decode_rle([decode_siim(starts[id], 64, 64, relative=False)], 64, 64)[..., 0] * 255,
            masks[id],
        )
        for id in masks
    )


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["tta=hflip"], marks=pytest.mark.slow),
        pytest.param(["average_checkpoints=2"], marks=pytest.mark.slow),
        pytest.param(["tta=hflip", "average_checkpoints=2"], marks=pytest.mark.slow),
    ],
)
def test_members_and_views_are_averaged_and_judged_at_a_rule_searched_for_them(
    words, trained, thorax, cli, tmp_path
):
    checkpoint = trained / "checkpoints/best.ckpt"
    before = checkpoint.read_bytes()
    code, said = cli(
        *WORDS, *words, "do=[test,predict]", f"ckpt_path={trained}", f"datamodule.root={thorax}"
    )
    assert code == 0 and checkpoint.read_bytes() == before, said
    members = (
        sorted(checkpoint.parent.glob("top-*.ckpt"))
        if "average_checkpoints=2" in words
        else [checkpoint]
    )
    by_hand = {
        split: logits_by_hand(members, files_of(trained, thorax, split), "tta=hflip" in words)
        for split in ("val", "test")
    }
    evidence = read_evidence(tmp_path / "run/evidence/val.npz")
    rule = evidence.rule[0, 0]

    def score(split: str, rule: np.ndarray, lesions_only: bool) -> float:
        truths = {id: truth_of(thorax, id) for id in by_hand[split]}
        return float(
            np.mean(
                [
                    dice(drawn(by_hand[split][id], rule), truth)
                    for id, truth in truths.items()
                    if truth.any() or not lesions_only
                ]
            )
        )

    for split in ("val", "test"):
        assert scores_of(tmp_path / "run", split)["dice"]["value"] == pytest.approx(
            score(split, rule, False), abs=2e-3
        )
    rules = [
        np.array([bottom, area, bottom]) for area in (0.0, 0.01) for bottom in range(105, 152)
    ]  # logits of .05 to .95
    assert score("val", rule, True) >= max(score("val", other, True) for other in rules) - 2e-3
    masks = masks_of(tmp_path / "run")
    assert set(masks) == set(by_hand["test"])
    assert (
        np.mean([(mask > 0) != drawn(by_hand["test"][id], rule) for id, mask in masks.items()])
        < 1e-3
    )
    assert not np.array_equal(
        evidence.counts, read_evidence(trained / "evidence/val.npz").counts
    )  # another inference than the run's own


REFUSED = {
    "nothing to do": (["do=[]"], "do=[] is unknown", "fit, test, predict"),
    "a wrong order": (
        ["do=[test,fit]"],
        "do=[test,fit]: this order is not possible",
        "set do=[fit,test]",
    ),
    "not alone": (["do=[compare,fit]"], "compare cannot be combined", "set do=[compare]"),
    "predict without a network": (["do=[predict]"], "needs a trained network", "ckpt_path"),
    "predict without its callback": (
        ["do=[fit,predict]", CALLBACKS.replace("predictions,", "")],
        "would write nothing",
        "callbacks=[...,pred",
    ),
    "an unknown view": (
        ["tta=vflip"],
        "tta=vflip is not allowed",
        "it must be none, hflip, flips or turns",
    ),
    "no checkpoints": (
        ["average_checkpoints=0"],
        "average_checkpoints=0 is not allowed",
        "a whole number of 1 or more",
    ),
    "more than a fit will keep": (
        ["average_checkpoints=3"],
        "needs 3 checkpoints, and this fit would keep 2",
        "save_top_k=3",
    ),
    "more than a run kept": (
        ["average_checkpoints=3", "do=[test]", "ckpt_path={trained}"],
        "needs 3 checkpoints, but the run kept 2",
        "take average_checkpoints=2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_before_any_step(case, trained, thorax, cli, steps):
    words, wrong, mend = REFUSED[case]
    code, said = cli(
        *WORDS, f"datamodule.root={thorax}", *(word.format(trained=trained) for word in words)
    )
    refused(code, said, steps, wrong, mend)
