"""Tests of the bone-scan chain through run.py.

Labels train a classifier, which gives boxes and pseudo masks, from which a segmenter learns.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.formats.rle import decode_rle
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.manifest import read_manifest
from lightning_modules.classification import ClassificationModule
from tests.conftest import DEMO, folder_hash, refused
from tests.factories.distributed import ranks

SAM = [
    "callbacks/pseudo_labels/segmenter=sam2",
    "callbacks.pseudo_labels.segmenter.weights=/nowhere",
]
NONE = "callbacks.threshold_search.threshold_range=[0.999,1.0]"


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "pseudo_labels" / name)


def test_the_chain_leaves_every_image_and_its_boxes_in_both_coordinates(bone_chain, bone_scans):
    seen = [table(bone_chain, f"preds_{split}.csv") for split in ("train", "val", "test")]
    ids = pd.concat(seen)["id"]
    assert (
        ids.is_unique
        and len(ids) == 128
        and {id.split("/")[0] for id in ids} == {"wholeBodyANT", "wholeBodyPOST"}
    )
    for split, images in zip(("train", "val", "test"), seen, strict=True):
        canvas, own = (
            table(bone_chain, f"pseudo_boxes_{split}.csv"),
            table(bone_chain, f"pseudo_boxes_{split}_orig.csv"),
        )
        of_image = images.set_index("id").loc[canvas["id"]]
        assert (
            len(canvas) and (of_image["pred"] == 1).all() and canvas.groupby("id").size().max() <= 5
        )
        assert (canvas["x2"] - canvas["x1"] == 12).all() and (
            canvas["y2"] - canvas["y1"] == 12
        ).all()
        for x, pad in (
            ("x1", "pad_left"),
            ("x2", "pad_left"),
            ("y1", "pad_top"),
            ("y2", "pad_top"),
            ("peak_x", "pad_left"),
        ):
            assert np.allclose(
                (canvas[x] - of_image[pad].to_numpy()) / of_image["scale"].to_numpy(), own[x]
            )
        assert own["x1"].min() >= 0 and (own["x2"].to_numpy() <= of_image["width"].to_numpy()).all()
    numbers = seen[0].iloc[0]
    box = Letterbox(int(numbers["height"]), int(numbers["width"]), (128, 64))
    assert (numbers["scale"], numbers["pad_left"], numbers["pad_top"]) == (
        box.scale,
        box.content.left,
        box.content.top,
    )
    assert len(list((bone_chain / "pseudo_labels/heat").glob("*.npy"))) == sum(
        int(images["pred"].sum()) for images in seen
    )
    assert len(table(bone_chain, "index.csv")) > 128, "regions are indexed too"


def test_masks_are_those_of_accepted_boxes_and_test_is_judged_by_the_truth(bone_chain, bone_scans):
    manifest, true = (
        read_manifest(bone_chain / "pseudo_labels" / f"{name}.csv")
        for name in ("manifest", "true_manifest")
    )
    rows, images = (
        manifest.rows,
        pd.concat(
            [table(bone_chain, f"preds_{split}.csv") for split in ("train", "val", "test")]
        ).set_index("id"),
    )
    assert manifest.group_is == "patient"
    assert rows.groupby("group")["split"].nunique().max() == 1
    fitted = rows[rows["split"] != "test"]
    assert set(fitted["mask_is"]) == {"pseudo mask", "normal by label"}
    assert set(rows["mask_is"][rows["split"] == "test"]) <= {"true mask", "no lesion"}
    assert (fitted["label"] == (fitted["mask_is"] == "pseudo mask")).all()
    drawn = fitted[fitted["mask_is"] == "pseudo mask"]
    assert len(drawn) and (images.loc[drawn["id"], "accepted"] > 0).all()
    for id, mask in zip(drawn["id"], drawn["mask"], strict=True):
        own = pd.concat(
            [table(bone_chain, f"pseudo_boxes_{split}_orig.csv") for split in ("train", "val")]
        )
        kept = own[(own["id"] == id) & own["rejected"].isna()]
        within = np.zeros((128, 32), bool)
        for x1, y1, x2, y2 in kept[["x1", "y1", "x2", "y2"]].to_numpy():
            within[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = (
                True
            )
        pixels = decode_rle(mask, 128, 32)[..., 0] > 0
        assert pixels.any() and not (pixels & ~within).any()
    for id, mask in zip(
        *(rows[rows["split"] == "test"][name] for name in ("id", "mask")), strict=True
    ):
        truth = cv2.imread(str(bone_scans / "masks" / id.replace(".jpg", ".png")), 0)
        assert (mask is not None) == bool(truth.any())
    assert len(true) == 128 and set(true.rows["mask_is"]) == {"true mask", "no lesion"}
    assert true.rows.set_index("id")["split"].loc[rows["id"]].tolist() == rows["split"].tolist()


def test_the_page_and_the_report_tell_of_the_chain(bone_chain):
    told = json.loads((bone_chain / "report.json").read_text())
    chained = told["pseudo_labels"]
    for split in ("train", "val", "test"):
        left = list(chained["images"][split].values())
        assert left == sorted(left, reverse=True) and left[0] == len(
            table(bone_chain, f"preds_{split}.csv")
        )
        masks, own = (
            list(chained["masks"][split].values()),
            table(bone_chain, f"pseudo_boxes_{split}_orig.csv"),
        )
        assert masks == sorted(masks, reverse=True) and masks[-1] == int(
            (own["rejected"].isna() & own["mask_area"].notna()).sum()
        )
    assert set(chained["localization"]["table"]) >= {
        "the heat maps",
        "randomized weights",
        "the brightest blob",
    }
    assert {
        "fit",
        "threshold",
        "test",
        "classifier",
        "heat maps",
        "boxes",
        "masks and their quality",
    } <= set(chained["seconds"])
    page = (bone_chain / "report.html").read_text()
    assert (
        "Pseudo labels" in page
        and chained["localization"]["summary"] in page.replace("&#39;", "'")
        and "One decision per patient" in page
    )
    selected = json.loads((bone_chain / "selected_threshold.json").read_text())["abnormal"]
    assert (
        selected["threshold"] == told["rule"]["abnormal"]["threshold"]
        and selected["objective"] == "youden"
    )
    assert selected["val"]["sensitivity"] == pytest.approx(
        told["scores"]["val"]["abnormal"]["recall"]["value"]
    )


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(bone_chain, bone_words, tmp_path):
    again = [
        *bone_words,
        "do=[predict]",
        f"ckpt_path={bone_chain}",
        "trainer.precision=32-true",
        f"paths.cache={bone_chain.parent / 'cache'}",
    ]
    ranks(2, again, tmp_path / "two")
    for split in ("train", "val", "test"):
        one, two = (
            table(bone_chain, f"pseudo_boxes_{split}.csv"),
            table(tmp_path / "two", f"pseudo_boxes_{split}.csv"),
        )
        assert one["id"].tolist() == two["id"].tolist() and np.allclose(
            one.drop(columns="id"), two.drop(columns="id"), atol=1e-4
        )
    assert "Pseudo labels" in (tmp_path / "two/report.html").read_text()


@pytest.mark.slow
def test_a_segmenter_learns_from_what_the_chain_left(bone_chain, bone_scans, cli, tmp_path):
    before = folder_hash(bone_scans), folder_hash(bone_chain)
    small = (
        "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,"
        "decoder_channels:[16,8,8]}"
    )
    common = [
        "experiment=pseudo_mask_bone_scan",
        "image_size=[128,64]",
        "datamodule.batch_size=8",
        small,
        "trainer.max_epochs=1",
        *DEMO[:2],
    ]
    callbacks = (
        "callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown,nonfinite_loss,resources,"
        "report]"
    )
    code, said = cli(*common, callbacks, f"datamodule.root={bone_chain}")
    assert code == 0, said
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["data"]["cleaning"]["train: pseudo mask"]["count"] > 0
    assert {name for name in report["data"]["cleaning"] if name.startswith("test: ")} <= {
        "test: true mask",
        "test: no lesion",
    }

    true = "datamodule.manifest_name=pseudo_labels/true_manifest.csv"
    code, said = cli(
        *common, callbacks, f"datamodule.root={bone_chain}", true, folder=tmp_path / "true"
    )
    assert code == 0, said
    assert (
        json.loads((tmp_path / "true/report.json").read_text())["identity"] == report["identity"]
    ), "both are evaluated on the same test set"
    assert (folder_hash(bone_scans), folder_hash(bone_chain)) == before


@pytest.mark.slow
def test_no_image_above_the_threshold_is_said_and_leaves_valid_empty_tables(
    bone_words, bone_chain, cli, tmp_path, capfd
):
    code, said = cli(
        *bone_words, NONE, "do=[fit,test,predict]", f"paths.cache={bone_chain.parent / 'cache'}"
    )
    assert code == 0, said
    told = json.loads((tmp_path / "run/report.json").read_text())["pseudo_labels"]
    assert sum(counts["above the threshold"] for counts in told["images"].values()) == 0
    assert "No image reaches the threshold" in (tmp_path / "run/report.html").read_text()
    for split in ("train", "val", "test"):
        boxes = table(tmp_path / "run", f"pseudo_boxes_{split}_orig.csv")
        assert len(boxes) == 0 and list(boxes) == list(
            table(bone_chain, f"pseudo_boxes_{split}_orig.csv")
        )
    assert set(read_manifest(tmp_path / "run/pseudo_labels/manifest.csv").rows["mask_is"]) <= {
        "normal by label",
        "true mask",
        "no lesion",
    }


@pytest.mark.slow
def test_heat_maps_that_are_all_zero_are_counted(
    bone_words, bone_chain, cli, tmp_path, monkeypatch
):
    from weak_supervision.cam import ActivationRecorder

    own = ActivationRecorder.compute
    monkeypatch.setattr(ActivationRecorder, "compute", lambda self, *rest: own(self, *rest) * 0)
    again = [
        "do=[predict]",
        f"ckpt_path={bone_chain}",
        f"paths.cache={bone_chain.parent / 'cache'}",
        "callbacks.pseudo_labels.max_images=3",
    ]
    code, said = cli(*bone_words, *again)
    assert code == 0, said
    assert (
        "The heat maps of 9 images above the threshold are zero everywhere"
        in (tmp_path / "run/report.html").read_text()
    )
    assert table(tmp_path / "run", "preds_test.csv")["heat"].dropna().tolist() == [0, 0, 0]


def test_too_little_memory_says_which_batch_size_to_try(bone_words, bone_chain, cli, monkeypatch):
    def full(self, batch, i):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(ClassificationModule, "predict_step", full)
    code, said = cli(
        *bone_words,
        "do=[predict]",
        f"ckpt_path={bone_chain}",
        f"paths.cache={bone_chain.parent / 'cache'}",
    )
    assert (
        code == 2
        and "out of memory" in said
        and "try datamodule.eval_batch_size=4" in said
        and "Traceback" not in said
    )
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("more", "wrong", "mend"),
    [
        (
            ["trainer.inference_mode=true"],
            "heat_maps.method=LayerCAM needs gradients",
            "trainer.inference_mode=false",
        ),
        (["callbacks.pseudo_labels.heat_maps.layers=[layer9]"], "layer9", "layer"),
        (
            ["callbacks.pseudo_labels.target_class=normal"],
            "target_class=normal is none of",
            "abnormal",
        ),
        (
            ["callbacks.pseudo_labels.localization.split=holdout"],
            "localization.split=holdout",
            "train, val or test",
        ),
        (["callbacks.pseudo_labels.max_images=-1"], "max_images=-1 is not allowed", "or null"),
        (
            ["datamodule.predict_splits=[all]"],
            "datamodule.predict_splits=[all] is not allowed",
            "a list of train, val or test",
        ),
        (
            SAM,
            "segmenter.weights=/nowhere is not a folder",
            "name a folder with config.json",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_training(bone_words, more, wrong, mend, cli, steps):
    code, said = cli(*bone_words, *more)
    refused(code, said, steps, wrong, mend)


SEGMENTER = [
    "experiment=pseudo_mask_bone_scan",
    "image_size=[128,64]",
    "module.net.encoder.weights=null",
    *DEMO[:2],
]


@pytest.mark.parametrize(
    ("spoil", "more", "wrong", "mend"),
    [
        (
            None,
            ["datamodule.split=group"],
            "datamodule.split=group would make a new split",
            "set datamodule.split=folders",
        ),
        (
            "masks",
            [],
            "no image of split train has a mask",
            "relax callbacks.pseudo_labels.quality",
        ),
        ("folds", [], "is a run of several folds", "such as"),
        (
            "boxes",
            [],
            "the boxes of 'wholeBodyANT/1.jpg' are [[1, 2, 3]]",
            "write a list of [x1, y1, x2, y2]",
        ),
    ],
)
def test_a_segmenter_refuses_what_it_cannot_learn_from(
    spoil, more, wrong, mend, bone_chain, cli, steps, tmp_path
):
    root = tmp_path / "labels"
    place = root / "fold0/pseudo_labels" if spoil == "folds" else root / "pseudo_labels"
    place.mkdir(parents=True)
    manifest = read_manifest(bone_chain / "pseudo_labels/manifest.csv")
    if spoil == "masks":
        manifest.rows["mask"] = manifest.rows["mask"].where(
            manifest.rows["mask_is"] != "pseudo mask", None
        )
    if spoil == "boxes":
        manifest.rows["boxes"] = [[[1, 2, 3]], *manifest.rows["boxes"].tolist()[1:]]
    manifest.write(place / "manifest.csv")
    code, said = cli(*SEGMENTER, f"datamodule.root={root}", *more)
    refused(code, said, steps, wrong, mend)


def test_a_checkpoint_of_other_gray_values_is_refused(bone_chain, bone_words, cli, steps):
    code, said = cli(
        *bone_words,
        "module.gamma=0.5",
        "do=[predict]",
        f"ckpt_path={bone_chain}",
        f"paths.cache={bone_chain.parent / 'cache'}",
    )
    refused(
        code,
        said,
        steps,
        "was trained with module.gamma=1, but this run has module.gamma=0.5",
        "set module.gamma=1",
    )


def test_a_folder_of_unknown_scans_gets_boxes_and_masks(
    bone_chain, bone_words, bone_scans, cli, tmp_path
):
    folder = tmp_path / "new"
    folder.mkdir()
    for number in (3, 4):
        (folder / f"{number}.jpg").write_bytes(
            (bone_scans / f"wholeBodyPOST/{number}.jpg").read_bytes()
        )
    words = [
        word
        for word in bone_words
        if not word.startswith(("datamodule.root", "datamodule.true_masks", "datamodule.view"))
    ]
    code, said = cli(
        *words,
        "datamodule=folder",
        f"datamodule.root={folder}",
        "do=[predict]",
        f"ckpt_path={bone_chain}",
    )
    assert code == 0, said
    assert len(table(tmp_path / "run", "preds_test.csv")) == 2 and len(
        table(tmp_path / "run", "pseudo_boxes_test_orig.csv")
    )
    assert "This run made predictions only" in (tmp_path / "run/report.html").read_text()
    assert (
        json.loads((tmp_path / "run/pseudo_labels/summary.json").read_text())["images"]["test"][
            "images"
        ]
        == 2
    )


def test_a_step_on_data_alone_says_that_a_run_is_missing(cli, steps, tmp_path):
    code, said = cli("experiment=pseudo_mask_bone_scan", "do=[inspect]", f"paths.runs={tmp_path}")
    refused(
        code,
        said,
        steps,
        "there is no finished run of weak_bone_scan on real data",
        "make one first",
    )
