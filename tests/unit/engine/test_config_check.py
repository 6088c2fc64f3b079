"""Tests of checks before any heavy import: annotations read from source, keys, a fresh process."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf

from datamodules.arguments import ArgumentError
from engine.config_check import check_arguments, read_annotations

ROOT = Path(__file__).parents[3]
OURS = re.compile(
    r"_target_: ?((?:datamodules|lightning_modules|callbacks|evaluation|weak_supervision)\.[\w.]+)"
)
TARGETS = sorted(
    {
        name
        for path in (ROOT / "conf").rglob("*.yaml")
        for name in OURS.findall(path.read_text(encoding="utf-8"))
    }
)
# Annotations that only PyTorch, Lightning or another heavy module could tell.
HEAVY = re.compile(
    r"torch|Transform|Pipeline|Decision|Collector|Net|Module|Callable|Config|Boxes|Maps|Filter|Segmenter|Scorer"
)


def _make(target):
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _enforced(target):
    """Return argument -> annotation of what a constructor enforces, by importing it."""
    made, found = _make(target), {}
    if is_dataclass(made):
        hints = get_type_hints(made, include_extras=True)
        return {field.name: hints[field.name] for field in fields(made)}
    for owner in reversed(made.__mro__) if isinstance(made, type) else [made]:
        function = vars(owner).get("__init__") if isinstance(made, type) else made
        if hasattr(function, "__wrapped__"):
            function = inspect.unwrap(function)
            hints = get_type_hints(function, include_extras=True)
            named = inspect.getfullargspec(function)
            found |= {name: hints[name] for name in named.args + named.kwonlyargs if name in hints}
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_annotations_read_from_source_are_those_that_the_constructor_enforces(target):
    read, enforced = read_annotations(target), _enforced(target)
    assert {name: repr(value) for name, value in read.items()} == {
        name: repr(enforced[name]) for name in read
    }
    unread = {name: repr(value) for name, value in enforced.items() if name not in read}
    assert {name: hint for name, hint in unread.items() if not HEAVY.search(hint)} == {}


def test_a_scheduler_of_a_stage_is_left_to_the_run_and_the_other_keys_are_checked():
    scheduler = {"_target_": "lightning_modules.one_cycle", "_partial_": True}
    stages = [{"epochs": 1, "scheduler": scheduler}, {"epochs": 1, "lr": 0.1}]
    cfg = OmegaConf.create(
        {"curriculum": {"_target_": "callbacks.Curriculum", "stages": stages, "epochs": 2}}
    )
    check_arguments(cfg)
    cfg.curriculum.stages[0].patience = 0
    with pytest.raises(ArgumentError, match=r"^curriculum\.stages\[0\]\.patience=0 is not allowed"):
        check_arguments(cfg)
    cfg.curriculum.stages[0].patience = 1
    cfg.curriculum.stages[0].scheduler.warmup = 2
    with pytest.raises(ArgumentError, match=r"^curriculum\.stages\[0\]\.scheduler\.warmup=2"):
        check_arguments(cfg)


def test_the_sentence_names_the_key_where_the_user_writes_it():
    cfg = OmegaConf.create(
        {
            "evaluation_size": "small",
            "datamodule": {
                "_target_": "datamodules.BrainTumorDataModule",
                "evaluation_size": "${evaluation_size}",
                "sampling": {"_target_": "datamodules.SamplingConfig", "hard_negative": 2.0},
            },
        }
    )
    with pytest.raises(ArgumentError, match=r"^evaluation_size=small is not allowed; it must be"):
        check_arguments(cfg)
    cfg.evaluation_size, cfg.datamodule.sampling.negative_fraction = 64, 1.5
    with pytest.raises(
        ArgumentError, match=r"^datamodule\.sampling\.negative_fraction=1\.5 is not allowed"
    ):
        check_arguments(cfg)


def test_a_value_in_a_mapping_and_one_in_a_list_of_objects():
    dice = {"_target_": "lightning_modules.DiceLoss", "smooth": 1.0}
    loss = {
        "_target_": "lightning_modules.WeightedLoss",
        "terms": {"dice": dice},
        "weights": {"dice": -1.0},
    }
    with pytest.raises(ArgumentError, match=r"^module\.loss\.weights\.dice=-1\.0 is not allowed"):
        check_arguments(OmegaConf.create({"module": {"loss": loss}}))
    loss["weights"]["dice"], dice["smooth"] = 1.0, float("nan")
    with pytest.raises(ArgumentError, match=r"^module\.loss\.terms\.dice\.smooth=nan"):
        check_arguments(OmegaConf.create({"module": {"loss": loss}}))


TRANSFORMS = "datamodule.augmentation.transforms"


@pytest.mark.parametrize(
    ("name", "transform", "sentence"),
    [
        (
            "rotate",
            {"_target_": "datamodules.augmentation.Affine", "degrees": -5},
            "rotate.degrees=-5 is not allowed; it must be a number of 0 or more",
        ),
        (
            "noise",
            {"_target_": "datamodules.augmentation.GaussNoise", "p": 1.5},
            "noise.p=1.5 is not allowed; it must be a number from 0 to 1",
        ),
        (
            "noise",
            {"_target_": "datamodules.augmentation.GausNoise", "p": 0.5},
            "noise._target_=datamodules.augmentation.GausNoise does not exist; did you mean"
            " datamodules.augmentation.GaussNoise?",
        ),
        (
            "other",
            {
                "_target_": "datamodules.augmentation.Transform",
                "transform": {"_target_": "albumentations.Blur", "p": 7},
            },
            None,  # the library's own
        ),
        ("elastic", None, None),
    ],
)
def test_each_transform_of_a_pipeline_is_checked_under_its_full_key(name, transform, sentence):
    flip = {"_target_": "datamodules.augmentation.HorizontalFlip", "p": 0.5}
    pipeline = {
        "_target_": "datamodules.augmentation.Pipeline",
        "transforms": {"flip": flip, name: transform},
    }
    cfg = OmegaConf.create({"datamodule": {"augmentation": pipeline}})
    if sentence is None:
        check_arguments(cfg)
        return
    with pytest.raises(ArgumentError, match=f"^{re.escape(f'{TRANSFORMS}.{sentence}')}"):
        check_arguments(cfg)


def test_a_target_that_a_package_does_not_export_is_refused():
    loss = {"_target_": "lightning_modules.DiseLoss"}
    with pytest.raises(
        ArgumentError, match=r"^loss\._target_=.* mean lightning_modules\.DiceLoss\?"
    ):
        check_arguments(OmegaConf.create({"loss": loss}))
    check_arguments(OmegaConf.create({"_target_": "albumentations.NoSuchClass"}))


def test_what_other_libraries_take_is_left_to_them():
    assert read_annotations("torch.optim.AdamW") == {}
    assert read_annotations("datamodules.NoSuchClass") == {}
    check_arguments(OmegaConf.create({"_target_": "torch.optim.AdamW", "lr": "a lot"}))


REFUSALS = [
    (["datamodule.batch_siz=4"], "did you mean datamodule.batch_size?"),
    (["epochs=3"], "epochs is not a key of this experiment; did you mean trainer.max_epochs?"),
    (
        ["experiment=segmentation", "callbacks.freeze_encoder.epochs=1"],
        "callbacks.freeze_encoder.epochs needs the callback freeze_encoder; add extra=freeze_enc",
    ),
    (
        ["experiment=classification", "module.net.lora={rank: 8, alpha: 16}"],
        "module.net.lora is not a key of this network; take module/net=lora for a classifier",
    ),
    (
        ["experiment=lora_pneumonia", "module.net.lora.rnk=8"],
        "module.net.lora.rnk is not a key of this experiment; did you mean module.net.lora.rank?",
    ),
    (["module.net.lora={rnk: 8}"], "module.net.lora.rnk is not a known key; did you mean rank?"),
    (["lr=1e-3"], "did you mean module.optimizer.lr?"),
    (["trainer.epochs=3"], "did you mean trainer.max_epochs?"),
    (["experiment=unetpp_brain_tumour"], "did you mean unetpp_brain_tumor?"),
    (["scale=full", "datamodule.root=/nowhere"], "datamodule.root=/nowhere is not a folder"),
    (["datamodule.batch_size=four"], "datamodule.batch_size=four is not allowed"),
    ([f"{TRANSFORMS}.rotate.p=1.5"], f"{TRANSFORMS}.rotate.p=1.5 is not allowed; it must be a"),
    (
        [f"+{TRANSFORMS}.noise={{_target_:datamodules.augmentation.GaussNoise,std:2}}"],
        f"{TRANSFORMS}.noise.std=2 is not allowed; it must be a number from 0 to 1",
    ),
    ([f"{TRANSFORMS}.rotate.degres=5"], f"did you mean {TRANSFORMS}.rotate.degrees?"),
    (["datamodule.sampling.negative_fraction=1.5"], "must be a number from 0 to 1"),
    (["+datamodule.sampling.fraction=1"], "is not a known key; did you mean"),
    (
        ["datamodule.sampling={positive_fraction: 0.5, oversample_positives: 2.0}"],
        "set oversample_positives=1.0 with it",
    ),
    (["monitor.mode=maxx"], "monitor.mode=maxx is not allowed"),
    (["+monitor.mod=max"], "monitor.mod is not a known key; did you mean mode?"),
    (
        ["module.scratch_normalization.std=[0]"],
        "module.scratch_normalization.std=[0] is not allowed; it must be a list of numbers",
    ),
    (["image_size=50"], "image_size=50 is not a multiple of 32"),
    (
        ["experiment=curriculum_pnx", "callbacks.curriculum.stages.1.lr=-1"],
        "callbacks.curriculum.stages[1].lr=-1 is not allowed",
    ),
    (
        ["experiment=curriculum_pnx", "callbacks.curriculum.stages=[{epochs: 12, lrr: 1}]"],
        "callbacks.curriculum.stages[0].lrr is not a known key; did you mean lr?",
    ),
    (
        ["experiment=curriculum_pnx", "callbacks.curriculum.stages=[{epochs: 3}]"],
        "stages have 3 = 3 epochs, but trainer.max_epochs=9; set trainer.max_epochs=3",
    ),
    (
        ["experiment=lora_pneumonia", "module.net.lora.rank=0"],
        "module.net.lora.rank=0 is not allowed",
    ),
    (
        ["experiment=weak_bone_scan", "callbacks.pseudo_labels.quality.min_area=2"],
        "callbacks.pseudo_labels.quality.min_area=2 is not allowed",
    ),
    (
        ["experiment=weak_bone_scan", "+callbacks.pseudo_labels.boxes.widht=4"],
        "callbacks.pseudo_labels.boxes.widht is not a known key; did you mean width?",
    ),
    (
        ["experiment=weak_bone_scan", "callbacks.threshold_search.objective=sens_atleast"],
        "callbacks.threshold_search.objective=sens_atleast is unknown; set specificity",
    ),
    (
        ["experiment=weak_bone_scan", "+callbacks.threshold_search.min_metrics.recall=0.5"],
        "min_metrics.recall is not one of its keys; the keys are sensitivity, specificity",
    ),
    (["trainer.max_epochs=-3"], "trainer.max_epochs=-3 is not allowed"),
    (["do=[test]", "ckpt_path=/nowhere"], "/nowhere does not exist"),
    (["do=[tset]"], "do=[tset] is unknown"),
]
# Each refusal in a child of its own of a process that has imported run.py, Hydra and nothing heavy.
EACH_IN_A_CHILD = """
import json, os, sys
import engine.composition, engine.sweeps.process_launcher, engine.tasks
import run

for words, log in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 2)
        sys.argv, code = ["run.py", *words], 0
        try:
            run.main()
        except SystemExit as stop:
            code = stop.code
        print("heavy", *{"torch", "lightning"} & set(sys.modules), file=sys.stderr, flush=True)
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Exit code and stderr of each command of REFUSALS."""
    folder, calls = tmp_path_factory.mktemp("refusals"), []
    for number, (overrides, _) in enumerate(REFUSALS):
        words = ["experiment=unetpp_brain_tumor", "scale=demo", f"hydra.run.dir={folder}/run"]
        if overrides[0].startswith(("experiment=", "scale=")):
            words = [word for word in words if word.split("=")[0] != overrides[0].split("=")[0]]
        calls.append(([*words, *overrides], f"{folder}/{number}.log"))
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_A_CHILD],
        input=json.dumps(calls),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    codes = [int(code) for code in done.stdout.split()]
    return [(code, Path(log).read_text()) for code, (_, log) in zip(codes, calls, strict=True)]


@pytest.mark.parametrize(
    ("number", "sentence"), [(number, sentence) for number, (_, sentence) in enumerate(REFUSALS)]
)
def test_a_refusal_imports_neither_torch_nor_lightning(number, sentence, refusals):
    code, said = refusals[number]
    assert (code, said.splitlines()[-1]) == (2, "heavy"), said
    assert sentence in said and "Traceback" not in said
