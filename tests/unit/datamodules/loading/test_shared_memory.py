"""Tests of refusals of loader processes where there is too little shared memory."""

from types import SimpleNamespace

import pytest

from datamodules.errors import UserError
from datamodules.loading import shared_memory


@pytest.fixture
def room(monkeypatch, tmp_path):
    """Sets the free bytes of the shared memory."""
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)

    def give(free):
        monkeypatch.setattr(
            shared_memory.shutil, "disk_usage", lambda place: SimpleNamespace(free=free)
        )

    return give


def test_workers_that_cannot_hand_over_a_batch_are_refused(room):
    room(64_000)
    with pytest.raises(UserError, match=r"num_workers=2 needs .* 0\.064 MB .*num_workers=0"):
        shared_memory.check_shared_memory(2, 32_000)
    shared_memory.check_shared_memory(0, 32_000)
    room(64_000_000)
    shared_memory.check_shared_memory(2, 6_500_000)


def test_a_system_without_such_a_folder_is_not_asked(room, monkeypatch, tmp_path):
    room(0)
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "none")
    shared_memory.check_shared_memory(2, 32_000)


@pytest.mark.parametrize(
    "words",
    [
        "unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)",
        "Caught RuntimeError in DataLoader worker process 0.\nunable to mmap 400 bytes from file"
        " </torch_1_2>: Cannot allocate memory (12)",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's"
        " workers are out of shared memory. Please try to raise your shared memory limit.",
        "unable to open shared memory object </torch_1_2> in read-write mode: Permission denied",
    ],
)
def test_errors_of_shared_memory_name_the_key(words):
    refusal = shared_memory.shared_memory_error(RuntimeError(words))
    assert "set datamodule.num_workers=0" in str(refusal) and "\n" not in str(refusal)


def test_other_errors_stay_as_they_are():
    assert shared_memory.shared_memory_error(RuntimeError("mat1 and mat2 shapes")) is None
    too_many = "unable to open shared memory object </t> in read-write mode: Too many open files"
    assert shared_memory.shared_memory_error(RuntimeError(too_many)) is None
