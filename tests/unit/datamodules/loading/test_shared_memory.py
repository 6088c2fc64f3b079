"""Tests of refusals of loader processes where there is too little shared memory."""

from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset

from datamodules.base import _prepare_worker
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


def test_a_worker_that_died_of_it_is_explained_by_what_led_to_its_end():
    bus = RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's"
        " workers are out of shared memory. Please try to raise your shared memory limit."
    )
    error = RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")
    assert shared_memory.shared_memory_error(error) is None
    error.__cause__ = bus
    assert "set datamodule.num_workers=0" in str(shared_memory.shared_memory_error(error))


class OutOfMemory:
    """A batch that does not fit, as PyTorch says it when a queue passes it on."""

    def __reduce__(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")


class Batches(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return OutOfMemory() if index else 0


@pytest.mark.slow
def test_a_batch_that_does_not_fit_ends_the_run_instead_of_a_wait_without_end():
    loader = DataLoader(
        Batches(),
        num_workers=1,
        multiprocessing_context="fork",
        collate_fn=lambda items: items[0],
        worker_init_fn=_prepare_worker,
        timeout=60,
    )
    with pytest.raises(RuntimeError) as caught:
        list(loader)
    assert "set datamodule.num_workers=0" in str(shared_memory.shared_memory_error(caught.value))
    unknown = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    assert "set datamodule.num_workers=0" in str(shared_memory.shared_memory_error(unknown))
    shared_memory._lost_batch[0] = 0
    assert shared_memory.shared_memory_error(unknown) is None
