"""Tests that every nested mapping of the configuration refuses keys and numbers that mean nothing.

The classes are found in the source, so that a new one is tested without being listed here.
"""

import ast
import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, fields
from importlib import import_module
from math import inf, nan
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from datamodules.arguments import (
    ArgumentError,
    Fraction,
    FromMapping,
    PositiveFloat,
    PositiveInt,
    check_value,
    config_dataclass,
    format_config_value,
    validated,
)

ROOT = Path(__file__).parents[3]
PACKAGES = (
    *("callbacks", "datamodules", "engine", "evaluation", "lightning_modules", "reporting"),
    *("deployment", "weak_supervision"),
)


def _find_classes() -> Iterator[type]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "@config_dataclass" not in text:
                continue
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and any(
                    isinstance(mark, ast.Name) and mark.id == "config_dataclass"
                    for mark in node.decorator_list
                ):
                    yield getattr(import_module(module), node.name)


CLASSES = [each for each in _find_classes() if not inspect.isabstract(each)]


def _types_within(annotation: Any) -> set[Any]:
    """Return the plain types that a value may have, without those of items."""
    if get_origin(annotation) is Annotated:
        return _types_within(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return set().union(*map(_types_within, get_args(annotation)))
    return {get_origin(annotation) or annotation}


def _cases() -> Iterator[Any]:
    for cls in CLASSES:
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            wrong = {
                "inf": inf,
                "nan": nan,
                "true": 1 if bool in _types_within(hints[field.name]) else True,
            }
            for name, value in wrong.items():
                yield pytest.param(cls, field.name, value, id=f"{cls.__name__}-{field.name}-{name}")


def test_the_classes_are_found():
    assert {"StageConfig", "SamplingConfig", "QualityFilter", "RandomWalkerSegmenter"} <= {
        each.__name__ for each in CLASSES
    }


@pytest.mark.parametrize(("cls", "key", "value"), list(_cases()))
def test_a_value_that_is_none_is_refused_and_named(cls, key, value):
    with pytest.raises(ArgumentError) as refusal:
        cls(**{key: value})
    sentence = f"{cls.__name__}: {key}={format_config_value(value)} is not allowed; it must be "
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_unknown_key_is_refused_with_the_nearest_one(cls):
    name = fields(cls)[0].name
    with pytest.raises(ArgumentError) as refusal:
        cls(**{f"{name}x": 1})
    assert str(refusal.value) == (
        f"{cls.__name__}: {name}x is not a known key; did you mean {name}?"
    )
    with pytest.raises(ArgumentError, match=rf"qqq is not a known key; the keys are .*\b{name}\b"):
        cls(qqq=1)


@config_dataclass
class _Stage:
    epochs: PositiveInt
    lr: PositiveFloat | None = None
    weights: Mapping[str, Fraction] | None = None

    def __post_init__(self) -> None:
        if self.epochs == 13:
            raise ArgumentError("", ("epochs",), "=13 brings bad luck; take 12")


@validated
class _Curriculum:
    """A class that takes one mapping and a list of them."""

    def __init__(
        self,
        stages: list[Annotated[_Stage, FromMapping()]],
        last: Annotated[_Stage, FromMapping()] | None = None,
    ) -> None:
        self.stages, self.last = stages, last


def test_mappings_become_frozen_objects_with_their_values_unchanged():
    made = _Curriculum([{"epochs": 2, "lr": 1}, _Stage(epochs=1)], last={"epochs": 3})
    assert made.stages == [_Stage(epochs=2, lr=1.0), _Stage(epochs=1)]
    assert made.last == _Stage(epochs=3) and isinstance(made.stages[0].lr, float)
    with pytest.raises(FrozenInstanceError):
        made.last.epochs = 4


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({"epochs": 1, "lr": -1}, ".lr=-1 is not allowed; it must be a number above 0, or null"),
        ({"epochs": 1, "lrr": 1}, ".lrr is not a known key; did you mean lr?"),
        ({"lr": 0.1}, ".epochs is missing; set it"),
        (
            {"epochs": 1, "weights": {"a": 2}},
            ".weights.a=2 is not allowed; it must be a number from 0 to 1",
        ),
        ({"epochs": 13}, ".epochs=13 brings bad luck; take 12"),
    ],
)
def test_the_key_of_an_error_leads_to_the_nested_mapping(stage, sentence):
    with pytest.raises(ArgumentError) as refusal:
        _Curriculum([{"epochs": 1}, stage])
    assert str(refusal.value) == f"_Curriculum: stages[1]{sentence}"
    with pytest.raises(ArgumentError) as refusal:
        _Curriculum([], last=stage)
    assert str(refusal.value) == f"_Curriculum: last{sentence}"
    with pytest.raises(ArgumentError) as refusal:
        check_value("a.stages", [stage], list[Annotated[_Stage, FromMapping()]])
    assert str(refusal.value) == f"a.stages[0]{sentence}"


def test_a_value_that_is_no_mapping_is_told_the_keys():
    with pytest.raises(
        ArgumentError, match=r"last=3 is not allowed; it must be a mapping of epochs"
    ):
        _Curriculum([], last=3)


def test_arguments_are_given_by_name():
    with pytest.raises(ArgumentError, match=r"epochs must be given by its name: epochs=\.\.\."):
        _Stage(1)


def test_floats_of_numpy_are_numbers_and_its_whole_numbers_are_not():
    made = _Stage(epochs=1, lr=np.float64(0.5))
    assert made.lr == 0.5
    assert _Stage(epochs=1, lr=np.int64(2)).lr == 2.0
    with pytest.raises(ArgumentError, match="epochs=1 is not allowed"):
        _Stage(epochs=np.int64(1))
