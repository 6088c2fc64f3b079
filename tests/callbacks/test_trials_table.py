"""The table of a sweep: words that differ, numbers in full, on any width of the terminal."""

import json

import pandas as pd
import pytest
import yaml

from callbacks.comparison.trials import Trials

HEADS = {"dice": 0.71234, "dice_lesions": 0.61234, "image_auc": 0.81234}
WORDS = ["experiment=upernet_pnx", "scale=demo", "trainer.max_epochs=3", "seed=7"]
NAMES = ["lr", "module/net", "positive_fraction"]


def sweep(folder, trials: int, failed: tuple[int, ...] = ()):
    """What finished trials leave, the later the better; one that failed leaves its words alone."""
    for k in range(trials):
        (folder / f"{k}/.hydra").mkdir(parents=True)
        own = [f"module.optimizer.lr=1e-{k + 3}", f"module/net=upernet_swin_{k}", f"datamodule.sampling.positive_fraction=[.{k},b]"]
        (folder / f"{k}/.hydra/overrides.yaml").write_text(yaml.safe_dump(WORDS + own))
        scores = {name: {"value": value + k / 100} for name, value in HEADS.items()}
        report = {"heads": list(HEADS), "scores": {s: {"lesion": scores} for s in ("val", "test")}, "parameters": {"trainable": 41234567}}
        if k not in failed:
            (folder / f"{k}/report.json").write_text(json.dumps(report))


def printed(folder, monkeypatch, capsys, width: int) -> str:
    """What a terminal so wide shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    config = type("Config", (), {"hydra": type("Hydra", (), {"sweep": type("Sweep", (), {"dir": str(folder)})})})
    Trials().on_multirun_end(config)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_of_one_trial_no_word_is_told_and_every_number_stands_in_full(tmp_path, monkeypatch, capsys):
    sweep(tmp_path, 1)
    said = printed(tmp_path, monkeypatch, capsys, 80)
    assert "1 trial, ranked by val/dice" in said and "…" not in said and "upernet" not in said
    assert next(line.split() for line in said.splitlines() if "0.7123" in line) == ["0", "0.7123", "0.7123", "0.6123", "0.8123", "41234567"]
    columns = ["trial", "val/dice", "test/dice", "test/dice_lesions", "test/image_auc", "trained_parameters"]
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
        assert line[-5:] == [numbers[0], *numbers, "41234567"]
    firsts = [line.split()[0] for line in table if line.split()[-1:] == ["41234567"]]
    assert firsts == ["2", "1", "0"]  # the best first
    if width == 130:
        assert all(name in said for name in NAMES) and "upernet_swin_1" in said and "[.1,b]" in said
    if width == 80:
        assert all(f"{name}=" in said for name in NAMES) and "positive_fraction=[.2,b]" in said


def test_a_word_is_told_where_the_trials_it_differs_from_failed(tmp_path, monkeypatch, capsys):
    sweep(tmp_path, 2, failed=(1,))
    said = printed(tmp_path, monkeypatch, capsys, 130)
    assert "1e-3" in said and "1e-4" not in said and "seed" not in said
    assert pd.read_csv(tmp_path / "trials.csv")["module.optimizer.lr"].tolist() == [1e-3]
