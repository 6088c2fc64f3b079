"""Tests of a study's search space: the experiment's file, overridden by the command line."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from datamodules.errors import UserError
from engine.sweeps.optuna_sweeper import (
    describe_distribution,
    parse_space,
    quote_value,
    to_override,
)

CONF = Path(__file__).parents[4] / "conf"
PARAMS = {
    "module.optimizer.lr": "tag(log, interval(3e-5, 3e-3))",
    "module.net.lora.rank": "choice(4, 8, 16)",
}


def test_words_narrow_fix_extend_and_leave_out():
    words = [
        "experiment=lora_pneumonia",
        "module.optimizer.lr=tag(log,interval(1e-4,1e-3))",
        "module.net.lora.rank=8",
        "image_size=range(64,160,32)",
    ]
    found = parse_space(PARAMS, words)
    assert found.distributions == {
        "module.optimizer.lr": FloatDistribution(1e-4, 1e-3, log=True),
        "image_size": IntDistribution(64, 128, step=32),
    }
    assert found.fixed_overrides == ["experiment=lora_pneumonia", "module.net.lora.rank=8"]
    assert (
        parse_space(PARAMS, ["~module.net.lora.rank"]).distributions.keys()
        == {"module.optimizer.lr"}
        and not parse_space(PARAMS, ["~module.net.lora.rank"]).fixed_overrides
    )
    assert parse_space({}, ["a=1", "a=interval(0,1)", "b=1", "b=2"]).fixed_overrides == [
        "b=2"
    ]  # the last word on a key counts
    assert parse_space(PARAMS, ["image_size=choice([64,64],128)"]).distributions[
        "image_size"
    ] == CategoricalDistribution(["[64,64]", 128])
    assert parse_space(PARAMS, []).distributions["module.net.lora.rank"] == CategoricalDistribution(
        [4, 8, 16]
    )


@pytest.mark.parametrize(
    ("params", "words", "wrong", "mend"),
    [
        (
            {},
            ["experiment=weak_bone_scan", "seed=1"],
            "no override of experiment=weak_bone_scan says what to search; add hparams_search=NAME",
            "interval(1e-4,1e-2)",
        ),
        (None, [], "says what to search", "tag(log"),
        ({"lr": "choice(1,2)"}, ["lr=3"], "says what to search", "hparams_search=NAME"),
        (PARAMS, ["hparams_search=a,b"], "hparams_search=a,b", "name one of them"),
        (
            PARAMS,
            ["module.optimizer.lr=interval(1,0.1)"],
            "module.optimizer.lr=interval(1,0.1)",
            "write it like",
        ),
        (
            PARAMS,
            ["module.optimizer.lr=tag(log,interval(0,0.1))"],
            "tag(log,interval(0,0.1))",
            "write it like",
        ),
        (
            PARAMS,
            ["experiment=lora_pneumonia,linear_probe_pneumonia"],
            "searches one experiment",
            "hydra/sweeper=basic",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_sentence(params, words, wrong, mend):
    with pytest.raises(UserError) as refusal:
        parse_space(params, words)
    assert (
        wrong in str(refusal.value)
        and mend in str(refusal.value)
        and "\n" not in str(refusal.value)
    )


def test_what_is_drawn_is_told_in_words():
    assert describe_distribution(FloatDistribution(1e-4, 1e-2, log=True)) == "0.0001 to 0.01, log"
    assert (
        describe_distribution(IntDistribution(64, 128, step=32)) == "64 to 128, in steps of 32"
        and describe_distribution(IntDistribution(1, 9)) == "1 to 9"
    )
    assert describe_distribution(CategoricalDistribution([4, 8])) == "4, 8"


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"b": None, "c": [1, 2.5, True]}},
        "it's \\ here",
        "a,b=${c}d",
        "null",
        1e-05,
        ["x y", "{z}"],
    ],
)
def test_a_value_is_read_back_by_hydra_as_it_was(value):
    assert OverridesParser.create().parse_override(f"key={quote_value(value)}").value() in (
        value,
        _quoted(value),
    )


def _quoted(value):
    """Hydra keeps strings in their quotes, which compare as text."""

    class Text(str):
        def __eq__(self, other):
            return getattr(other, "text", other) == str(self)

        __hash__ = str.__hash__

    if isinstance(value, dict):
        return {key: _quoted(each) for key, each in value.items()}
    return (
        [_quoted(each) for each in value]
        if isinstance(value, list)
        else Text(value)
        if isinstance(value, str)
        else value
    )


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ("null,4", [None, 4]),
        ("'null',null", ["null", None]),
        ("true,null,1e-3,adam", [True, None, 1e-3, "adam"]),
        ("'a,b',null", ["a,b", None]),
        ("[null,1],[2]", [[None, 1], [2]]),
    ],
)
def test_a_choice_of_the_command_line_reaches_its_trial_as_it_was(values, read):
    (choices,) = (
        drawn.choices for drawn in parse_space({}, [f"a={values}"]).distributions.values()
    )
    words = [to_override("a", choice) for choice in choices]
    assert [_quoted(read_override(word)) for word in words] == read
    assert "None" not in describe_distribution(CategoricalDistribution(choices))


def read_override(word):
    """Return the value of a word as Hydra reads it, text without its quotes."""
    value = OverridesParser.create().parse_override(word).value()
    return getattr(value, "text", value)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "hparams_search").iterdir()))
@pytest.mark.parametrize("scale", ["demo", "full"])
def test_every_space_searches_keys_of_its_experiment_at_either_scale(name, scale):
    words = [f"experiment={name}", f"scale={scale}"]
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", [*words, f"hparams_search={name}"], return_hydra_config=True)
        sweeper = cfg.hydra.sweeper
        assert sweeper._target_.endswith("StudySweeper")
        found = parse_space(sweeper.params, [f"hparams_search={name}"])
        assert found.distributions and found.fixed_overrides == [f"hparams_search={name}"]
        drawn = [
            f"{key}={of.choices[0] if isinstance(of, CategoricalDistribution) else of.low}"
            for key, of in found.distributions.items()
        ]
        compose("run", [*words, *drawn])  # refuses a key that is none


@pytest.mark.parametrize(
    "value",
    [4, 0.1, 1e-5, None, True, "adam", "x=y", "it's", "1e-3", "null", "a,b", "with space", "[1,2]"],
)
def test_a_drawn_value_is_read_back_as_it_was(value):
    read = OverridesParser.create().parse_override(to_override("key", value)).value()
    read = getattr(read, "text", read)
    assert read == ([1, 2] if value == "[1,2]" else value) and type(read) is type(
        [] if value == "[1,2]" else value
    )
