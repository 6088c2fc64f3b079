"""Tests of a sweep's page: its content and the importance of each key."""

import re
import shlex

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from reporting.sweep_report import (
    MIN_TRIALS,
    compute_importances,
    render_sweep_page,
    trial_command,
    write_sweep_page,
)
from reporting.trials import load_trials, select_best_trial
from tests.factories.sweep_folder import sweep, trial


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("sweep"), 24)


def test_the_page_tells_of_every_trial_and_escapes_what_they_said(drawn, capsys):
    write_sweep_page(drawn)
    said, trials = (drawn / "sweep.html").read_text(), load_trials(drawn)
    rows = re.findall(r"<tr><td>(?:<a href=\"(\d+)/report.html\">)?(\d+)", said)
    assert sorted(int(name) for _, name in rows) == list(range(24)) and {
        name for link, name in rows if not link
    } == {"2", "4", "6"}
    assert "Invalid rate: &lt;b&gt;-1&lt;/b&gt;" in said and "<b>-1</b>" not in said
    assert "21 finished, 1 pruned, 1 failed, 1 interrupted" in said and said.count("<svg") == 4
    assert (
        shlex.split(trial_command(select_best_trial(trials)))[2:]
        == select_best_trial(trials).overrides
        and f"{select_best_trial(trials).score:.4f}" in said
    )
    assert (
        not re.search(r"""(src|href)=["']?(https?:)?//""", said)
        and "sweep.html" in capsys.readouterr().out
    )


def test_the_rate_alone_explains_the_scores_as_a_forest_says_too(drawn):
    trials = [trial for trial in load_trials(drawn) if trial.state == "finished"]
    shares, _ = compute_importances(trials)
    values = np.array(
        [[float(value) for value in trial.varied_values.values()] for trial in trials]
    )
    forest = RandomForestRegressor(random_state=0).fit(
        np.log(values), [trial.score for trial in trials]
    )
    names = list(trials[0].varied_values)
    assert (
        next(iter(shares))
        == names[int(np.argmax(forest.feature_importances_))]
        == "module.optimizer.lr"
    )
    assert shares["module.optimizer.lr"] > 0.8 and sum(shares.values()) == pytest.approx(1)


def test_of_a_grid_over_words_they_are_told_too(tmp_path):
    for number, (net, seed) in enumerate(
        (net, seed) for net in ("unet", "fpn") for seed in range(4)
    ):
        trial(
            tmp_path,
            number,
            [f"module/net={net}", f"seed={seed}"],
            0.5 + 0.3 * (net == "fpn") + seed / 100,
        )
    shares, _ = compute_importances(load_trials(tmp_path))
    assert shares["module/net"] > 0.8


def test_where_nothing_can_be_told_the_page_says_so(tmp_path):
    for number in range(MIN_TRIALS - 1):
        trial(tmp_path, number, [f"module.optimizer.lr={number + 1}"], 0.5 + number / 10)
    assert "needs 5 finished trials; this sweep has 4" in render_sweep_page(
        load_trials(tmp_path), tmp_path
    )
    trial(tmp_path, MIN_TRIALS, ["module.optimizer.lr=9"], 0.7)
    for number in range(MIN_TRIALS):
        trial(tmp_path / "same", number, [f"module.optimizer.lr={number + 1}"], 0.5)
    assert "no key has a" in render_sweep_page(load_trials(tmp_path / "same"), tmp_path)
    for number in range(2):
        trial(
            tmp_path / "lost", number, [f"module.optimizer.lr={number + 1}"], None, "failed", "no"
        )
    assert "No trial has finished" in render_sweep_page(load_trials(tmp_path / "lost"), tmp_path)


def test_one_trial_alone_has_no_page(tmp_path):
    trial(tmp_path, 0, ["module.optimizer.lr=1"], 0.5)
    write_sweep_page(tmp_path)
    assert not (tmp_path / "sweep.html").exists()


def test_of_folds_and_seeds_none_is_the_best_and_a_torn_file_hides_no_other_trial(tmp_path):
    for number in range(6):
        trial(tmp_path, number, [f"fold={number % 3}", f"seed={number // 3}"], 0.5 + number / 10)
    assert (
        "Best trial" not in (said := render_sweep_page(load_trials(tmp_path), tmp_path))
        and "none of them is the best" in said
    )
    assert (
        "best so far" not in said
        and "best trial" not in said
        and "which key matters" not in said
        and "by epoch" in said
    )  # no best in any figure
    (tmp_path / "3/.hydra/overrides.yaml").write_text("- 'fold=")
    assert [tried.name for tried in load_trials(tmp_path)] == list("012345")
