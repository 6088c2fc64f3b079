"""Tests that misspelt choices, `true`, `off` and NaN are refused where they mean nothing."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field

from datamodules.arguments import (
    ArgumentError,
    Fraction,
    FractionRange,
    Names,
    PositiveInt,
    check_partial,
    describe_annotation,
    format_config_value,
    validated,
)
from datamodules.errors import UserError
from engine.composition import compose_run
from engine.config_check import ROOT, TRAINER, check_keys
from lightning_modules.optim import check_optimizer

CONF = Path(__file__).parents[3] / "conf"
OURS = re.compile(r"_target_: ?((?:datamodules|lightning_modules|callbacks)\.[\w.]+)")
WRONG = {"misspelt": "misspeltt", "true": True, "off": "off", "nan": float("nan")}
# arguments that are any text: a path, or a name that the data, a library or a server knows;
# some are checked by sentences of their own
NAMES = {
    *(
        "root",
        "cache_dir",
        "cls_prob",
        "run_dir",
        "dirpath",
        "path",
        "cleaned_dir",
        "patients",
        "true_masks",
        "manifest_name",
        "image_kind",
        "layout",
        "table",
        "group_pattern",
        "part",
        "weights",
    ),
    *(
        "architecture",
        "name",
        "weights_folder",
        "title",
        "monitor",
        "of",
        "device",
        "layers",
        "objective",
        "method",
        "target_class",
    ),
    *("project", "experiment", "entity", "name", "group", "job_type", "notes"),
}
NAMES_ELSEWHERE = {
    ("SupervisedModule", "monitor"),
    ("FeatureMaps", "layers"),
    ("BalancedBce", "weights"),
    ("WeightedSum", "weights"),
}
CHOICES = {
    ("ChestXrayDataModule", "group"),
    ("Localization", "split"),
}  # of the same names, but from a list
GIVEN_TO_FUNCTIONS = {
    "optimizer",
    "trainer",
    "monitor",
    "span",
    "root",
}  # by the module or the data module, which call them
HANDED_ON = {"rule", "collector"}  # by a subclass, which makes them itself
GIVEN = {"classes": ["a"], "run_dir": "x", "dirpath": "x", "monitor": "val/dice", "mode": "max"}


def _targets() -> Iterator[Callable[..., Any]]:
    found = {
        name
        for path in CONF.rglob("*.yaml")
        for name in OURS.findall(path.read_text(encoding="utf-8"))
    }
    for name in sorted(found):
        module, _, attribute = name.rpartition(".")
        yield getattr(import_module(module), attribute)


def _arguments(target: Callable[..., Any]) -> dict[str, type | Callable[..., Any]]:
    """Map each argument to the class whose constructor has it.

    It holds the target's own arguments and those of its base classes of this project.
    """
    if not isinstance(target, type):
        return {
            name: target
            for name, each in inspect.signature(target).parameters.items()
            if each.kind != each.VAR_KEYWORD
        }
    found: dict[str, Any] = {}
    for owner in target.__mro__:
        if owner.__module__.split(".")[0] in (
            "datamodules",
            "lightning_modules",
            "callbacks",
        ) and "__init__" in vars(owner):
            parameters = inspect.signature(owner.__init__).parameters  # type: ignore[misc]
            for name, each in parameters.items():
                if name != "self" and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                    found.setdefault(name, owner)
    return found


def _cases() -> Iterator[tuple[Callable[..., Any], str, str]]:
    for target in _targets():
        if is_dataclass(target):
            continue  # see test_config_dataclass
        for name, owner in _arguments(target).items():
            if (owner is not target and name in HANDED_ON) or (
                name in GIVEN_TO_FUNCTIONS and not isinstance(target, type)
            ):
                continue
            if target.__name__ == "Curriculum" and name in ("stages", "epochs"):
                continue  # a list of stages: see STAGES
            for wrong in WRONG:
                if wrong != "true" or not _is_switch(owner, name):
                    if wrong in ("true", "nan") or not _is_text(owner, name):
                        yield target, name, wrong


def _is_switch(owner: Any, name: str) -> bool:
    return inspect.signature(owner).parameters[name].annotation is bool


def _is_text(owner: Any, name: str) -> bool:
    own = (owner.__name__, name)
    return name in NAMES and own not in NAMES_ELSEWHERE | CHOICES


@pytest.mark.parametrize(
    ("target", "name", "wrong"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}-{case[2]}") for case in _cases()],
)
def test_a_value_that_means_nothing_is_refused_and_named(target, name, wrong):
    own = _arguments(target) if isinstance(target, type) else {}
    others = {
        key: value
        for key, value in GIVEN.items()
        if key in own and key != name and own[key].__name__ not in ("SupervisedModule", "UperNet")
    }
    with pytest.raises(UserError, match=rf"\b{name}\b"):
        target(**others, **{name: WRONG[wrong]})


def _wrong_keys() -> Iterator[tuple[str, str]]:
    for name, annotation in {**TRAINER, **ROOT}.items():
        for wrong in WRONG:
            switch = wrong == "true" and "true or false" in describe_annotation(annotation)
            text = wrong in ("misspelt", "off") and name in (
                *("do", "ckpt_path", "init_from"),
                *("paths.runs", "paths.cache", "paths.weights", "monitor.name"),
            )  # any text may be a path or a name
            if not (switch or text):
                yield name, wrong


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    cfg = compose_run(["experiment=unetpp_brain_tumor"])
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


@pytest.mark.parametrize(("name", "wrong"), list(_wrong_keys()))
def test_keys_of_the_trainer_and_of_the_root_are_checked(name, wrong, composed):
    key, cfg = f"trainer.{name}" if name in TRAINER else name, composed.copy()
    OmegaConf.update(cfg, key, WRONG[wrong], force_add=True)
    said = re.escape(f"{key}={format_config_value(WRONG[wrong])} is not allowed; it must be ")
    with pytest.raises(ArgumentError, match=f"^{said}"):
        check_keys(cfg)


PNX = ["experiment=curriculum_pnx", "datamodule.cls_prob=null"]
SENTENCES = {  # words, of which the last is wrong -> what is allowed
    "a misspelt choice": (
        ["datamodule.unannotated=negatives"],
        "drop or negative (did you mean negative?)",
    ),
    "boxes": (["datamodule.boxes=refuze"], "refuse or fill (did you mean refuse?)"),
    "near_duplicates": (
        ["datamodule.near_duplicates=joined"],
        "report or join (did you mean join?)",
    ),
    "pool": (["datamodule.fold_pool=trian"], "train_val or train (did you mean train?)"),
    "split": (["datamodule.split=groups"], "folders or group (did you mean group?)"),
    "a negative rate": (
        ["module.encoder_lr_mult=-1"],
        "a number above 0, such as 0.1 (extra=freeze_encoder callbacks.freeze_encoder.epochs=null"
        " trains nothing in the encoder)",
    ),
    "not a number": (
        ["callbacks.threshold_search.min_area=[nan]"],
        "a list of numbers from 0 to 1",
    ),
    "beyond 1": (
        ["callbacks.threshold_search.bottom=[-1,2]"],
        "two numbers from 0 to 1, the smaller one first",
    ),
    "a negative weight": (["module.loss.weights.dice=-0.5"], "a number of 0 or more"),
    "a negative batch": (["datamodule.eval_batch_size=-3"], "a whole number of 1 or more, or null"),
    "clip": (["trainer.gradient_clip_val=-1"], "a number of 0 or more, or null"),
    "gather": (["trainer.accumulate_grad_batches=0"], "a whole number of 1 or more"),
    "every": (["callbacks.nonfinite_loss.check_every_n_steps=0"], "a whole number of 1 or more"),
    "at the root": (
        ["evaluation_size=natve"],
        "a whole number of 1 or more, or native (did you mean native?)",
    ),
    "true is not 1": (["datamodule.batch_size=true"], "a whole number of 1 or more"),
    "a schedule": (
        ["module/scheduler=warmup_cosine", "module.scheduler.warmup=2"],
        "a number from 0 to 1",
    ),
    "an optimizer": (["module.optimizer.lr=nan"], "a number of 0 or more"),
    "a term": (["module.loss.terms.focal.gamma=-2"], "a number of 0 or more"),
    "a phantom": (["datamodule.phantom.train=-2"], "a whole number of 1 or more"),
    "below another": (
        [
            "experiment=lora_pneumonia",
            "module.net.encoder.weights=null",
            "module.net.lora.alpha=-4",
        ],
        "a number above 0",
    ),
}
STAGES = {
    "[]": "callbacks.curriculum.stages=[] is not allowed; it must be a list of stages",
    "[{epochs: 100, lr: -1}]": (
        "callbacks.curriculum.stages[0].lr=-1 is not allowed; it must be a number above 0, or null"
    ),
    "[{epochs: 100, loss_weights: {dice: -1}}]": (
        "callbacks.curriculum.stages[0].loss_weights.dice=-1 is not allowed"
    ),
    "[{epochs: 100, lrr: 1}]": (
        "callbacks.curriculum.stages[0].lrr is not a known key; did you mean lr?"
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence_names_the_key_as_the_user_writes_it(
    case, cli, steps, export, radiographs, tmp_path
):
    words, allowed = SENTENCES[case]
    scratch = [
        "experiment=unetpp_brain_tumor",
        "module.net.encoder.weights=null",
        f"datamodule.root={export}",
    ]
    other = {
        "below another": [f"datamodule.root={radiographs}"],
        "a phantom": [f"datamodule.root={tmp_path / 'phantoms'}"],
    }
    code, said = cli(*other.get(case, scratch), *words)
    assert (
        (code, steps) == (2, [])
        and f"{words[-1]} is not allowed; it must be {allowed}\n" in said
        and "Traceback" not in said
    ), said


@pytest.mark.parametrize("stages", STAGES)
def test_a_stage_is_checked_key_by_key(stages, cli, steps, thorax):
    code, said = cli(*PNX, f"callbacks.curriculum.stages={stages}", f"datamodule.root={thorax}")
    assert (code, steps) == (2, []) and STAGES[stages] in said and "Traceback" not in said, said


class Base:
    @validated
    def __init__(self, rate: Fraction = 0.5) -> None:
        self.rate = rate


@validated
class Example(Base):
    """A class whose base class is checked too."""

    def __init__(
        self,
        mode: Literal["drop", "keep"] = "drop",
        sizes: Annotated[list[int], Field(min_length=1)] = [1],  # noqa: B006
        names: Names = ("a",),
        span: FractionRange | None = None,
        of: dict[str, PositiveInt] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.mode, self.sizes, self.names, self.span, self.of = mode, sizes, names, span, of


def test_valid_arguments_arrive_as_they_were_given():
    example = Example("keep", names=["x", "y"], span=[0.1, 0.9], of={"a": 2}, rate=1)
    assert (example.mode, example.names, list(example.span), example.of, example.rate) == (
        "keep",
        ["x", "y"],
        [0.1, 0.9],
        {"a": 2},
        1.0,
    )
    assert str(inspect.signature(Example)).startswith("(mode: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"mode": "kept"},
            "Example: mode=kept is not allowed; it must be drop or keep (did you mean keep?)",
        ),
        ({"sizes": []}, "Example: sizes=[] is not allowed; it must be a list of whole numbers"),
        ({"names": "abc"}, "Example: names=abc is not allowed; it must be a list of names"),
        (
            {"span": [0.9, 0.1]},
            (
                "Example: span=[0.9,0.1] is not allowed; it must be two numbers from 0 to 1, the"
                " smaller one first, or null"
            ),
        ),
        (
            {"of": {"a": 0}},
            "Example: of.a=0 is not allowed; it must be a whole number of 1 or more",
        ),
        ({"rate": float("inf")}, "rate=inf is not allowed; it must be a number from 0 to 1"),
        ({"rat": 1}, "rat is not an argument of"),
    ],
)
def test_a_python_caller_is_told_the_class_and_the_argument(arguments, sentence):
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        Example(**arguments)


def test_partials_are_checked_before_they_are_called():
    check_partial("scheduler", partial(sorted, key=None))  # of another library: left alone
    with pytest.raises(ArgumentError, match=r"scheduler\.rate=2 is not allowed"):
        check_partial("scheduler", partial(validated(_schedule), rate=2))
    with pytest.raises(ArgumentError, match=r"scheduler\.rte=2 is no argument of _schedule"):
        check_partial("scheduler", partial(validated(_schedule), rte=2))


def _schedule(rate: Fraction) -> float:
    return rate


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lr": float("nan")}, "optimizer.lr=nan"),
        ({"lr": True}, "optimizer.lr=true"),
        ({"weight_decay": -1}, "optimizer.weight_decay=-1"),
        ({"betas": [0.9, "x"]}, "optimizer.betas"),
        ({"amsgrad": 1}, "optimizer.amsgrad=1"),
    ],
)
def test_numbers_of_an_optimizer_are_checked_before_it_is_made(wrong, said):
    import torch

    with pytest.raises(ArgumentError, match=re.escape(said)):
        check_optimizer(partial(torch.optim.AdamW, **wrong))
