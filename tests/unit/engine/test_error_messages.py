"""Tests of errors of libraries that end a run: the sentence, or the error as it is."""

import errno
import multiprocessing
from multiprocessing import synchronize
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.base import ServingDataModule
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.sampling.config import EpochConfig
from engine.cli import user_message
from engine.error_messages import disk_error, explain_error, lost_process_error
from lightning_modules.base import SupervisedModule
from lightning_modules.losses import BCELoss
from lightning_modules.networks.classification import build_classifier


@pytest.fixture
def module():
    """A network for images of 224 pixels alone."""
    net = build_classifier("timm", {"name": "vit_tiny_patch16_224", "weights": None})
    return SupervisedModule(net, BCELoss(), optimizer=torch.optim.SGD)


def explain(error, module, side=160):
    data = ServingDataModule()
    data.image_size, data.channels = ImageSize(side, side), 1
    data.epoch_config = lambda epoch: EpochConfig(data.image_size, 4, None, None, None)
    trainer = SimpleNamespace(
        datamodule=data,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        current_epoch=0,
        world_size=1,
        validating=False,
    )
    return explain_error(error, None, trainer, module)


def error_of(module, side):
    with pytest.raises(AssertionError) as caught:
        module.net(torch.zeros(3, 1, side, side))
    return caught.value


def test_a_size_that_the_network_does_not_take_is_named_with_one_that_it_takes(module):
    refusal = explain(error_of(module, 160), module)
    assert isinstance(refusal, UserError) and str(refusal).endswith("set image_size=224")


def test_another_error_stays_as_it_is_though_the_size_is_wrong_too(module):
    assert explain(RuntimeError("CUDA error: device-side assert triggered"), module) is None
    assert explain(AssertionError("another"), module) is None
    assert explain(KeyError("weight"), module) is None


def test_an_error_in_spite_of_a_size_that_fits_stays_as_it_is(module):
    assert explain(error_of(module, 160), module, side=224) is None


def test_shared_memory_is_named(module):
    refusal = explain(RuntimeError("unable to allocate shared memory(shm) for file </t>"), module)
    assert "datamodule.num_workers=0" in str(refusal)


def test_a_full_dev_shm_is_not_taken_for_the_disk_of_the_run(module, monkeypatch):
    def no_space(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(synchronize._multiprocessing, "SemLock", no_space)
    with pytest.raises(OSError, match="No space left") as caught:
        multiprocessing.get_context("fork").Queue()
    assert "datamodule.num_workers=0" in str(explain(caught.value, module))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (RuntimeError, "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:6"),
        (RuntimeError, "[gloo/transport/tcp/pair.cc:553] Connection reset by peer"),
        (torch.distributed.DistBackendError, "NCCL error: ncclRemoteError: remote process exited"),
        (torch.distributed.DistNetworkError, "The client socket has timed out after 300000ms"),
    ],
)
def test_a_process_that_no_longer_answers_is_no_bug(kind, text):
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING))
    cfg = SimpleNamespace(paths=SimpleNamespace(run="/runs/a"))
    said = str(lost_process_error(kind(text), cfg, trainer))
    assert said.startswith("another process of this run has ended, or no longer answers (")
    assert said.endswith("hydra.run.dir=/runs/a resume=auto continues after the last saved epoch")
    trainer.state.fn = TrainerFn.TESTING
    assert str(lost_process_error(kind(text), cfg, trainer)).endswith("the same command again")
    assert lost_process_error(RuntimeError("Connection closed by peer"), cfg, trainer) is None
    assert lost_process_error(RuntimeError("gloo: shapes differ"), cfg, trainer) is None


def explain_predicting(error):
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.PREDICTING))
    cfg = SimpleNamespace(paths=SimpleNamespace(run="/runs/a"))
    return str(disk_error(error, cfg, trainer))


def test_errors_of_disks_name_the_file_or_the_run_folder():
    read_only = OSError(errno.EROFS, "Read-only file system", "/runs/a/b.csv")
    assert explain_predicting(read_only).startswith("the disk of /runs/a/b.csv is mounted read")
    full = explain_predicting(OSError(errno.ENOSPC, "No space left on device"))
    assert "disk of /runs/a;" in full and "resume=auto continues" in full


def raised(make):
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError


def test_the_command_line_explains_what_an_error_was_raised_from():
    denied = PermissionError(errno.EACCES, "Permission denied", "/runs")

    def wrap():
        raise RuntimeError("hydra") from denied

    def handle():
        try:
            raise denied
        except OSError:
            raise KeyError("a bug while it was handled")  # noqa: B904 - so it is

    expected = ("this user may not read or write /runs", 2)
    for error in (denied, raised(wrap)):
        message, code = user_message(error)
        assert message.startswith(expected[0]) and code == expected[1]
    assert user_message(raised(handle)) is None
