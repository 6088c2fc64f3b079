"""Tests of a classification from end to end: page, adapters, bounds, classes and sweeps."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

import run
from datamodules.phantoms import chest_findings
from engine import runner
from evaluation import evidence
from lightning_modules.networks.classification import build_classifier
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from tests.conftest import LABELS, SMALL_LABELS, folder_hash, refused


def fit(cli, folder: Path, root: Path, *words: str) -> dict:
    code, said = cli(
        *SMALL_LABELS,
        f"datamodule.root={root}",
        f"paths.runs={folder.parent}",
        "trainer.max_epochs=1",
        *words,
        folder=folder,
    )
    assert code == 0, said
    return (
        json.loads((folder / "report.json").read_text())
        if (folder / "report.json").is_file()
        else {}
    )


def test_a_run_leaves_a_page_whose_numbers_follow_from_its_evidence(cli, radiographs, tmp_path):
    before = folder_hash(radiographs)
    report = fit(cli, tmp_path / "a", radiographs, "callbacks.threshold_search.temperature=true")
    seen = evidence.read_evidence(tmp_path / "a/evidence/test.npz")
    scores, rule = report["scores"]["test"]["PNEUMONIA"], report["rule"]["PNEUMONIA"]
    assert scores["auc"]["value"] == pytest.approx(
        roc_auc_score(seen.labels[:, 0], seen.logits[:, 0])
    )
    assert scores["f1"]["value"] == pytest.approx(
        f1_score(seen.labels[:, 0], seen.probability[:, 0] >= rule["threshold"])
    )
    assert (
        set(seen.ids) == {str(i) for i in seen.ids}
        and len(seen) == report["data"]["splits"]["test"]["images"]
    )
    counts = np.array(report["confusion"]["test"][0]["counts"])
    assert counts.sum() == len(seen) and counts[1].sum() == seen.labels.sum()
    assert (
        report["data"]["folder_leaks"]["groups"] > 0
        and report["data"]["group_is"] == "patient"
        and report["loss"]["test"] > 0
    )
    assert 0 < report["parameters"]["trainable"] < report["parameters"]["total"] / 3
    assert (
        set(report["calibration"]["test"]["ece"]) == {"before", "after"}
        and rule["temperature"] != 1
    )
    html = (tmp_path / "a/report.html").read_text()
    for title in (
        "ROC",
        "Precision and recall",
        "F1 against threshold",
        "Calibration",
        "Confusion",
        "confident false",
        "are in more than one split",
    ):
        assert title in html, title
    table = pd.read_csv(tmp_path / "a/metrics.csv")
    assert table["test/auc"].dropna().iloc[0] == pytest.approx(scores["auc"]["value"], abs=1e-6)
    assert folder_hash(radiographs) == before


@pytest.mark.slow
def test_an_adapter_alone_is_tested_again_on_the_same_backbone_and_refused_on_another(
    cli, radiographs, tmp_path, steps
):
    words = ["module.net.checkpoint=adapter", "callbacks.checkpoint.save_weights_only=true"]
    first = fit(cli, tmp_path / "a", radiographs, *words)
    small, whole = tmp_path / "a/checkpoints/best.ckpt", first["parameters"]["total"] * 4
    assert small.stat().st_size < whole / 3
    again = fit(
        cli, tmp_path / "b", radiographs, *words, "do=[test]", f"ckpt_path={tmp_path / 'a'}"
    )
    assert again["scores"]["test"] == first["scores"]["test"]
    steps.clear()
    other = [f"datamodule.root={radiographs}", "do=[test]", f"ckpt_path={tmp_path / 'a'}"]
    other += ["module.net.encoder.weights=null"]  # random ones
    code, said = cli(*SMALL_LABELS, *words, *other)
    refused(
        code, said, steps, "its frozen weights differ from those of this run", "the same init_from"
    )
    code, said = cli(*SMALL_LABELS, *words, *other, "module.net.lora.rank=4")
    refused(code, said, steps, "belongs to another network", "set module.net as in the run")


@pytest.mark.slow
def test_merged_weights_are_those_of_a_plain_network(cli, radiographs, tmp_path):
    fit(
        cli,
        tmp_path / "a",
        radiographs,
        "extra=lora_export",
        "module.optimizer.lr=1e-2",
    )
    merged = build_classifier(
        "timm",
        {"name": "tf_efficientnet_lite0", "weights": str(tmp_path / "a/checkpoints/merged.pt")},
        1,
    ).eval()
    state = torch.load(tmp_path / "a/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    adapted = FrozenBackboneClassifier(
        build_classifier("timm", {"name": "tf_efficientnet_lite0", "weights": None}, 1),
        {"rank": 8, "alpha": 16, "dropout": 0.05},
    ).eval()
    adapted.load_state_dict(
        {
            name.removeprefix("net."): value
            for name, value in state.items()
            if name.startswith("net.")
        }
    )
    image = torch.randn(2, 1, 64, 64)
    assert (merged(image) - adapted(image)).abs().max() <= 1e-4
    assert not torch.equal(merged.conv_stem.weight, adapted.net.conv_stem.base_layer.weight)


@pytest.mark.slow
def test_an_adapted_run_goes_on_exactly(cli, radiographs, tmp_path):
    words = ["do=[fit]", "module.net.checkpoint=adapter"]
    fit(cli, tmp_path / "whole", radiographs, *words, "trainer.max_epochs=2")
    fit(cli, tmp_path / "part", radiographs, *words)
    fit(
        cli,
        tmp_path / "rest",
        radiographs,
        *words,
        "trainer.max_epochs=2",
        f"ckpt_path={tmp_path / 'part'}",
    )
    states = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "rest")
    ]
    assert [
        name
        for name, value in states[0].items()
        if isinstance(value, torch.Tensor) and not torch.equal(value, states[1][name])
    ] == []


@pytest.mark.slow
def test_the_probe_starts_from_the_body_of_another_run_and_is_compared_with_lora(
    cli, radiographs, tmp_path, capfd
):
    table = tmp_path / "findings"
    chest_findings.write(table, train=24, val=12, test=24, size=64)
    plain = [
        "experiment=pretrain_chest",
        "image_size=64",
        "datamodule.cache_size=null",
        "datamodule.batch_size=8",
        f"datamodule.root={table}",
    ]
    net = [
        "module.net.encoder.name=tf_efficientnet_lite0",
        "module.net.encoder.weights=null",
        "trainer.max_epochs=1",
        LABELS,
    ]
    more = [f"paths.runs={tmp_path}", "trainer.enable_progress_bar=false"]
    code, said = cli(*plain, *net, *more, folder=tmp_path / "pretrain_chest/a")
    assert code == 0, said
    report = json.loads((tmp_path / "pretrain_chest/a/report.json").read_text())
    assert set(report["scores"]["test"]) == {
        "effusion",
        "enlarged_heart",
        "nodule",
        "device",
        "mean of classes",
    }

    start = "init_from=latest:pretrain_chest"
    fit(cli, tmp_path / "lora", radiographs, start)
    named = (
        "module.net.encoder.weights=imagenet"  # which nobody asks for: the body comes from the run
    )
    fit(cli, tmp_path / "probe", radiographs, start, "experiment=linear_probe_pneumonia", named)
    source, probe = (
        torch.load(tmp_path / name / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        for name in ("pretrain_chest/a", "probe")
    )
    assert torch.equal(source["net.conv_stem.weight"], probe["net.net.conv_stem.weight"])
    assert torch.equal(source["net.bn1.running_mean"], probe["net.net.bn1.running_mean"])

    code, said = cli(
        "do=[compare]", f"runs=[{tmp_path / 'lora'},{tmp_path / 'probe'}]", folder=tmp_path / "both"
    )
    assert code == 0, said
    found = json.loads((tmp_path / "both/comparison.json").read_text())
    variants = {variant["title"]: variant for variant in found["variants"]}
    assert (
        set(variants) == {"lora_pneumonia", "linear_probe_pneumonia"}
        and variants["linear_probe_pneumonia"]["parameters"]["trainable"] == 1281
    )
    auc = {name: variant["test"]["auc"] for name, variant in variants.items()}
    gap = found["variants"][1]["differences"]["auc"]
    assert gap["value"] == pytest.approx(
        auc[found["variants"][1]["title"]] - auc[found["variants"][0]["title"]]
    )
    assert "pretrain_chest" in (tmp_path / "both/comparison.html").read_text()

    code, said = cli(
        *SMALL_LABELS,
        f"datamodule.root={radiographs}",
        more[0],
        start,
        "do=[test]",
        folder=tmp_path / "untrained",
    )
    assert code == 2 and "gives only its backbone" in said and "ckpt_path" in said
    code, said = cli(
        "do=[compare]",
        f"runs=[{tmp_path / 'lora'},latest:pretrain_chest]",
        more[0],
        folder=tmp_path / "wrong",
    )
    assert code == 2 and "were evaluated on different images" in said


@pytest.mark.slow
def test_a_demo_makes_the_run_it_starts_from_first(cli, tmp_path, monkeypatch):
    made, own = [], runner.run_experiment

    def shorter(cfg, *arguments, **named):
        cfg.trainer.max_epochs, made[len(made) :] = 1, [cfg.title]
        cfg.datamodule.phantom.update(
            {"patients": 40} if "pneumonia" in cfg.title else {"train": 16, "val": 12, "test": 12}
        )
        return own(cfg, *arguments, **named)

    monkeypatch.setattr(runner, "run_experiment", shorter)
    runs = f"paths.runs='{tmp_path / 'runs, (1)'}'"
    words = [
        "experiment=linear_probe_pneumonia",
        "scale=demo",
        "init_from=latest:pretrain_chest",
        runs,
        "trainer.enable_progress_bar=false",
        "do=[fit]",
    ]
    code, said = cli(*words)
    assert (
        code == 0
        and "needs a run of pretrain_chest" in said
        and made == ["pretrain_chest", "linear_probe_pneumonia"]
    ), said
    code, said = cli(*words, folder=tmp_path / "second")
    assert code == 0 and "pretrain_chest" not in said and made[2:] == ["linear_probe_pneumonia"], (
        said
    )
    assert "pretrain_chest" in (tmp_path / "second/config.yaml").read_text()


@pytest.mark.slow
def test_a_bound_that_val_cannot_keep_ends_the_run_and_a_lower_one_goes_on(
    cli, radiographs, tmp_path, steps
):
    hard = [
        "callbacks.threshold_search.min_metrics={sensitivity:0.99,specificity:0.99}",
        f"datamodule.root={radiographs}",
        "trainer.max_epochs=1",
    ]
    code, said = cli(*SMALL_LABELS, *hard, folder=tmp_path / "a")
    assert (
        code == 2 and "the best reachable is 0." in said and "continue with ckpt_path=RUN" in said
    ), said
    code, said = cli(
        *SMALL_LABELS,
        f"datamodule.root={radiographs}",
        "do=[test]",
        f"ckpt_path={tmp_path / 'a'}",
        folder=tmp_path / "b",
    )
    assert code == 2 and "does not satisfy the bounds" in said
    easy = "callbacks.threshold_search.min_metrics.sensitivity=0.9"
    steps.clear()
    report = fit(cli, tmp_path / "c", radiographs, easy, f"ckpt_path={tmp_path / 'a'}")
    assert report["scores"]["val"]["PNEUMONIA"]["recall"]["value"] >= 0.9 and not steps


@pytest.mark.slow
def test_a_table_of_class_numbers_is_learned_as_classes_that_exclude_one_another(
    cli, radiographs, tmp_path
):
    lines = ["id,image,label,group"]
    for number, path in enumerate(sorted(radiographs.glob("*/*/*.jpeg"))):
        kind = 0 if path.parent.name == "NORMAL" else 1 + ("virus" in path.name)
        lines.append(
            f"i{number},{path},{kind},{path.parent.name}{path.name.split('_')[0].rsplit('-', 1)[0]}"
        )
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    table = [
        "datamodule=table",
        "datamodule/augmentation=radiograph",
        "datamodule.classes=[NORMAL,BACTERIA,VIRUS]",
    ]
    module = [
        "module.classes=[NORMAL,BACTERIA,VIRUS]",
        "module.exclusive=true",
        "module.net.classes=3",
    ]
    loss = ["module/loss=exclusive_focal"]
    report = fit(cli, tmp_path / "run", tmp_path, *table, *module, *loss)
    counts = np.array(report["confusion"]["test"][0]["counts"])
    mean = report["scores"]["test"]["mean of classes"]
    assert counts.shape == (3, 3) and mean["accuracy"]["value"] == pytest.approx(
        np.trace(counts) / counts.sum()
    )


@pytest.mark.slow
def test_a_sweep_leaves_a_table_ranked_by_val(radiographs, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MEDICAL_CACHE", str(tmp_path / "cache"))
    words = [
        "module.net.lora.rank=2,4",
        "module.net.lora.alpha=8",
        f"datamodule.root={radiographs}",
        "trainer.max_epochs=1",
        "hydra/launcher=basic",
    ]
    monkeypatch.setattr(
        sys,
        "argv",
        ["run.py", "-m", *SMALL_LABELS, *words, f"hydra.sweep.dir={tmp_path / 'sweep'}"],
    )
    run.main()
    table = pd.read_csv(tmp_path / "sweep/trials.csv")
    assert sorted(table["module.net.lora.rank"]) == [2, 4] and "module.net.lora.alpha" not in table
    assert {"val/f1", "test/f1", "test/auc", "test/average_precision"} & set(table) >= {
        "val/f1",
        "test/f1",
        "test/auc",
    }
    assert (
        table["val/f1"].is_monotonic_decreasing
        and "2 trials, ranked by val/f1" in capfd.readouterr().out
    )
