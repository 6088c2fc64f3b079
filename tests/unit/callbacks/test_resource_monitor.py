"""Tests of a run's cost, which counts the images of all ranks."""

from types import SimpleNamespace

import pytest

from callbacks import resource_monitor
from callbacks.resource_monitor import ResourceMonitor


@pytest.mark.parametrize("world_size", [1, 3])
def test_images_are_those_of_all_ranks(world_size, monkeypatch):
    """Two epochs of five steps of four images per rank last 10 and 20 seconds."""
    clock = iter([100.0, 110.0, 200.0, 220.0])
    monkeypatch.setattr(resource_monitor.time, "perf_counter", lambda: next(clock))
    found, batch = ResourceMonitor(), {"id": ["a", "b", "c", "d"]}
    for _ in range(2):
        found.on_train_epoch_start(None, None)
        for step in range(5):
            found.on_train_batch_end(
                SimpleNamespace(world_size=world_size, is_last_batch=step == 4),
                None,
                None,
                batch,
                step,
            )
    cost = found.as_dict()
    assert cost["images_trained"] == 2 * 5 * 4 * world_size and cost["train_seconds"] == 30.0
    assert cost["images_per_second"] == pytest.approx(world_size * (20 / 10 + 20 / 20) / 2)
