"""Tests of logger=mlflow, comet and many_loggers: numbers are read back from what each left."""

import getpass
import json
import socket
import sys
import zipfile

import pandas as pd
import pytest

from engine import config_check
from tests.conftest import SMALL, refused
from tests.factories.optional import import_optional

NUMBERS = ("train/loss", "val/loss", "val/dice", "test/dice")


def train(cli, export, folder, *words):
    """Train and test for two epochs; return the table of metrics.csv."""
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        "trainer.max_epochs=2",
        "datamodule.batches_per_epoch=1",
        f"paths.runs={folder.parent}",
        *words,
        folder=folder,
    )
    assert code == 0, said
    return pd.read_csv(folder / "metrics.csv")


@pytest.mark.slow
def test_mlflow_holds_the_numbers_of_metrics_csv_and_names_nobody(cli, export, tmp_path):
    mlflow = import_optional("mlflow")
    folder = tmp_path / "2026-01-02_03-04-05"
    table = train(cli, export, folder, "logger=mlflow", "logger.mlflow.tags={site:here}")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'unetpp_brain_tumor'")
    (run,) = client.search_runs([experiment.experiment_id])
    for name in NUMBERS:
        history = [one.value for one in client.get_metric_history(run.info.run_id, name)]
        assert history == pytest.approx(table[name].dropna().tolist()), name
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "unetpp_brain_tumor 2026-01-02_03-04-05"
    assert (run.data.tags["site"], run.data.tags["job_type"]) == ("here", "train")
    assert run.data.params["module/optimizer/lr"] == "0.001"
    assert client.list_artifacts(run.info.run_id) == []
    told = json.dumps([run.data.params, run.data.tags, run.info.user_id])
    secrets = [str(export), str(tmp_path), "run.py", getpass.getuser()]
    assert not [secret for secret in secrets if f'"{secret}' in told]


@pytest.mark.slow
def test_comet_keeps_the_numbers_offline_and_gathers_nothing_else(
    cli, export, tmp_path, monkeypatch
):
    import_optional("comet_ml")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # comet_ml puts its own there
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "2026-01-02_03-04-05"
    table = train(cli, export, folder, "logger=comet")
    (archive,) = (folder / "comet").glob("*.zip")
    with zipfile.ZipFile(archive) as packed:
        texts = {name: packed.read(name).decode(errors="replace") for name in packed.namelist()}
    messages = [
        json.loads(line)
        for text in texts.values()
        for line in text.splitlines()
        if line.startswith("{") and '"payload"' in line
    ]
    logged: dict[str, list[float]] = {}
    for message in messages:
        metric = message["payload"].get("metric") or {}
        if metric:
            logged.setdefault(metric["metricName"], []).append(float(metric["metricValue"]))
    for name in NUMBERS:
        assert logged[name] == pytest.approx(table[name].dropna().tolist()), name
    secrets = (str(export), str(tmp_path), socket.gethostname(), "run.py", "os_packages", "git")
    lines = [line for text in texts.values() for line in text.splitlines()]
    assert not [line for line in lines if any(secret in line for secret in secrets)]


@pytest.mark.slow
def test_many_loggers_are_csv_tensorboard_and_wandb_offline(cli, export, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "run"
    train(cli, export, folder, "logger=many_loggers", "do=[fit]")
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert list((folder / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("name", ["mlflow", "comet"])
def test_a_logger_without_its_package_is_refused_with_the_command(
    name, cli, export, steps, monkeypatch
):
    monkeypatch.setattr(config_check.importlib.util, "find_spec", lambda package: None)
    code, said = cli(*SMALL, f"datamodule.root={export}", f"logger={name}")
    refused(code, said, steps, f"logger={name} needs the package", f"uv sync --extra {name}")
