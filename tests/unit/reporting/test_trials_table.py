"""Tests of a sweep's table: trial states, ranking by the monitored score and numbers in full."""

import json

import pandas as pd
import pytest
import yaml

from reporting.config_diff import format_value, short_names
from reporting.outcome import Outcome, write_outcome
from reporting.sweep_report import format_duration, write_trials_csv
from reporting.trials import load_trials, rank_trials, select_best_trial
from tests.factories.sweep_folder import sweep as drawn

HEADS = {"dice": 0.71234, "dice_lesions": 0.61234, "image_auc": 0.81234}
WORDS = ["experiment=upernet_pnx", "scale=demo", "trainer.max_epochs=3", "seed=7"]
NAMES = ["lr", "module/net", "positive_fraction"]


def sweep(folder, trials: int, failed: tuple[int, ...] = ()):
    """What finished trials leave, the later the better."""
    for k in range(trials):
        (folder / f"{k}/.hydra").mkdir(parents=True)
        own = [
            f"module.optimizer.lr=1e-{k + 3}",
            f"module/net=upernet_swin_{k}",
            f"datamodule.sampling.positive_fraction=[.{k},b]",
        ]
        (folder / f"{k}/.hydra/overrides.yaml").write_text(yaml.safe_dump(WORDS + own))
        scores = {name: {"value": value + k / 100} for name, value in HEADS.items()}
        report = {
            "title": "t",
            "headline_metrics": list(HEADS),
            "scores": {s: {"lesion": scores} for s in ("val", "test")},
            "parameters": {"trainable": 41234567},
        }
        if k in failed:
            write_outcome(folder / str(k), Outcome(status="failed", failure="out of memory"))
        else:
            (folder / f"{k}/report.json").write_text(json.dumps(report))
            write_outcome(
                folder / str(k), Outcome(status="finished", score=HEADS["dice"] + k / 100)
            )


def printed(folder, monkeypatch, capsys, width: int) -> str:
    """What a terminal so wide shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    write_trials_csv(folder)
    return capsys.readouterr().out


def test_of_one_trial_no_word_is_told_and_every_number_stands_in_full(
    tmp_path, monkeypatch, capsys
):
    sweep(tmp_path, 1)
    said = printed(tmp_path, monkeypatch, capsys, 80)
    assert "1 trial, ranked by val/dice" in said and "…" not in said and "upernet" not in said
    assert next(line.split() for line in said.splitlines() if "0.7123" in line) == [
        "0",
        "finished",
        "0.7123",
        "0.7123",
        "0.6123",
        "0.8123",
    ]
    columns = [
        "trial",
        "state",
        "val/dice",
        "test/dice",
        "test/dice_lesions",
        "test/image_auc",
        "trained_parameters",
        "seconds",
        "failure",
    ]
    assert list(pd.read_csv(tmp_path / "trials.csv")) == columns


@pytest.mark.parametrize("width", [64, 80, 130])
def test_numbers_stand_in_full_and_words_fold(width, tmp_path, monkeypatch, capsys):
    sweep(tmp_path, 3)
    said = printed(tmp_path, monkeypatch, capsys, width)
    lines = said.splitlines()
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("table:"))]
    assert max(map(len, table)) <= width and "…" not in said
    for k in range(3):
        numbers = [f"{value + k / 100:.4f}" for value in HEADS.values()]
        line = next(line.split() for line in table if line.split()[:1] == [str(k)])
        assert line[-4:] == [numbers[0], *numbers]
    firsts = [line.split()[0] for line in table if line.split()[1:2] == ["finished"]]
    assert firsts == ["2", "1", "0"]  # the best first
    if width == 130:
        assert all(name in said for name in NAMES) and "upernet_swin_1" in said and "[.1,b]" in said
    if width == 80:
        assert all(f"{name}=" in said for name in NAMES) and "positive_fraction=[.2,b]" in said


def test_failed_trials_stand_last_with_their_words_and_reason(tmp_path, monkeypatch, capsys):
    sweep(tmp_path, 2, failed=(1,))
    said = printed(tmp_path, monkeypatch, capsys, 130)
    assert "1e-3" in said and "1e-4" in said and "seed" not in said
    table = pd.read_csv(tmp_path / "trials.csv")
    assert (
        table["state"].tolist() == ["finished", "failed"]
        and table["failure"].tolist()[1] == "out of memory"
    )


def test_the_monitored_score_ranks_and_not_the_first_of_the_page(tmp_path):
    sweep(tmp_path, 3)
    for k, score in enumerate((0.2, 0.1, 0.3)):
        write_outcome(tmp_path / str(k), Outcome(status="finished", score=score))
        (tmp_path / f"{k}/config.yaml").write_text("monitor: {name: val/loss, mode: min}")
    assert [trial.name for trial in rank_trials(load_trials(tmp_path))] == [
        "1",
        "0",
        "2",
    ] and select_best_trial(load_trials(tmp_path)).name == "1"
    write_trials_csv(tmp_path)
    assert pd.read_csv(tmp_path / "trials.csv")["val/loss"].tolist() == [0.1, 0.2, 0.3]


def test_every_state_is_told_and_the_best_is_one_that_finished(tmp_path, capsys):
    trials = load_trials(drawn(tmp_path))
    assert [trial.state for trial in trials[:7]] == [
        "finished",
        "finished",
        "failed",
        "finished",
        "pruned",
        "finished",
        "interrupted",
    ]
    order = rank_trials(trials)
    assert [trial.state for trial in order[-3:]] == [
        "pruned",
        "failed",
        "interrupted",
    ] and select_best_trial(trials) is order[0]
    scores = [trial.score for trial in order[:-3]]
    assert scores == sorted(scores, reverse=True)
    assert (
        trials[3].seconds == 63
        and format_duration(trials[3].seconds) == "1:03"
        and format_duration(3723) == "1:02:03"
    )
    assert trials[0].overrides[:2] == ["experiment=lora_pneumonia", "scale=demo"] and not any(
        "pruning" in word for word in trials[0].overrides
    )


def test_names_are_as_short_as_they_can_be():
    keys = ["module.net.lora.alpha", "module.loss.alpha", "module.optimizer.lr", "seed"]
    assert list(short_names(keys).values()) == ["lora.alpha", "loss.alpha", "lr", "seed"]
    flip = ["datamodule.augmentation.transforms.flip.p"]
    assert list(short_names(flip).values()) == ["flip.p"]
    assert [
        format_value(value) for value in ("0.00037561961444998357", "8", "upernet_swin", "0.0001")
    ] == ["0.0003756", "8", "upernet_swin", "0.0001"]
