"""Tests of metrics.csv: whole rows, new columns, and the rows of a checkpoint."""

import csv
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from engine.tracking import MetricsCsvLogger
from engine.tracking.metrics_csv import METRICS_KEY, MetricsHistory
from tests.factories.one_weight import OneWeight, fit_one_weight

ROWS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from('abc,"\n'), st.floats(width=32), min_size=1),
        st.integers(0, 5),
    ),
    max_size=8,
)


def parse(text: str) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{name: value for name, value in row.items() if value} for row in rows]


@given(ROWS, st.integers(0, 8))
def test_the_file_holds_every_row_however_often_it_is_written_and_restored(
    tmp_path_factory, rows, cut
):
    folder = tmp_path_factory.mktemp("run")
    (folder / "metrics.csv").write_text("a,step\n9,9\n")  # of an earlier run
    logger = MetricsCsvLogger(folder)
    for number, (numbers, step) in enumerate(rows):
        if number == cut:  # a killed process wrote more than its checkpoint knows
            text = logger.as_text()
            logger.log_metrics({"lost": 1.0}, 7)
            logger.save()
            logger = MetricsCsvLogger(folder)
            logger.restore(text)
        logger.log_metrics(numbers, step)
        logger.save()
    expected = [
        {name: str(value) for name, value in numbers.items()} | {"step": str(step)}
        for numbers, step in rows
    ]
    if rows:
        text = (folder / "metrics.csv").read_bytes().decode()
        assert parse(text) == expected
        assert text == logger.as_text()
        assert text.splitlines()[0] == csv_line(sorted({name for row in expected for name in row}))


def csv_line(names: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().splitlines()[0]


def test_a_row_of_known_columns_is_appended(tmp_path):
    logger = MetricsCsvLogger(tmp_path)
    logger.log_metrics({"a": torch.tensor(0.5)}, 0)
    logger.save()
    first = (tmp_path / "metrics.csv").stat().st_ino
    logger.log_metrics({"a": 0.25}, 1)
    logger.save()
    assert (tmp_path / "metrics.csv").stat().st_ino == first
    logger.log_metrics({"b": 1}, 2)
    logger.save()
    assert (tmp_path / "metrics.csv").read_bytes() == b"a,b,step\r\n0.5,,0\r\n0.25,,1\r\n,1,2\r\n"


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_checkpoint_of_an_epoch_holds_the_row_that_lightning_logs_after_it(epochs, tmp_path):
    logger = MetricsCsvLogger(tmp_path)
    saving = ModelCheckpoint(
        tmp_path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )

    def log(value: float) -> None:
        module.log("x", value, on_step=False, on_epoch=True)

    module = OneWeight(on_batch=lambda batch: log(float(batch)))
    parts = {"logger": logger, "enable_checkpointing": True, "log_every_n_steps": 1}
    fit_one_weight(module, [MetricsHistory(), saving], epochs=epochs, batches=2, **parts)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)[METRICS_KEY]
    assert kept.encode() == (tmp_path / "metrics.csv").read_bytes()
    assert [row["x"] for row in parse(kept)] == ["0.5"] * epochs
