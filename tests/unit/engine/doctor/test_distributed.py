"""Tests of the collective checks: gloo and NCCL (two GPUs or more) and their time limits."""

import socket

import psutil
import pytest
import torch

from engine.doctor import distributed
from engine.doctor.distributed import ProcessResult, Subprocess
from tests.unit.engine.doctor.conftest import H100, STOPS, WARNS, config, only


@pytest.mark.slow
def test_gloo_really_adds_up(plain):
    answer = distributed.check_gloo(plain)
    assert (
        not answer.issues and answer.values["works"] and answer.values["megabytes_per_second"] > 0
    ), answer


@pytest.mark.slow
def test_gloo_that_really_fails(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nothing9")
    outcomes = distributed.run_peers("gloo", 2)
    assert [outcome.code for outcome in outcomes] == [1, 1]
    monkeypatch.setattr(distributed, "run_peers", lambda backend, processes: outcomes)
    only(
        distributed.check_gloo(config()),
        WARNS,
        "cannot exchange gradients by gloo (",
        "GLOO_SOCKET_IFNAME=nothing9 is not an interface of this machine; set one of lo",
    )
    only(
        distributed.check_gloo(config("trainer.devices=2", "trainer.accelerator=cpu")),
        STOPS,
        "gloo",
        "or unset it",
    )
    assert "enforce fail at" not in distributed.check_gloo(config()).issues[0].problem


def test_a_host_name_that_does_not_resolve(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *which: (_ for _ in ()).throw(socket.gaierror())
    )
    monkeypatch.setattr(
        distributed,
        "run_peers",
        lambda backend, processes: [ProcessResult(1, "", "RuntimeError: no address")] * 2,
    )
    only(
        distributed.check_gloo(config()),
        WARNS,
        "no address",
        "set GLOO_SOCKET_IFNAME=lo, or add the name to /etc/hosts",
    )
    monkeypatch.setattr(
        distributed, "run_peers", lambda backend, processes: [ProcessResult(0, "800.0\n", "")] * 2
    )
    assert not distributed.check_gloo(config()).issues
    only(
        distributed.check_gloo(config("trainer.num_nodes=2")),
        STOPS,
        "host name does not resolve, by which 2 nodes",
        "/etc/hosts",
    )


def test_nccl_is_tried_where_there_are_two_gpus_and_only_there(gpus, monkeypatch):
    tried = []
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(
        distributed,
        "run_peers",
        lambda backend, processes: (
            tried.append(backend) or [ProcessResult(0, "9000\n", ""), ProcessResult(None, "", "")]
        ),
    )
    gpus(H100)
    assert not distributed.check_nccl(config()).issues and not tried
    gpus(H100, H100)
    only(
        distributed.check_nccl(config("trainer.devices=2")),
        STOPS,
        "by NCCL (no answer within 45 s)",
        "NCCL_DEBUG=INFO",
    )
    only(distributed.check_nccl(config()), WARNS, "by NCCL", "NCCL_P2P_DISABLE=1")
    monkeypatch.setattr(
        distributed, "run_peers", lambda backend, processes: [ProcessResult(0, "9000\n", "")] * 2
    )
    assert distributed.check_nccl(config("trainer.devices=2")).values[
        "megabytes_per_second"
    ] == 9000 and tried == ["nccl", "nccl"]


def test_processes_that_do_not_end_are_ended_with_all_they_started():
    child = Subprocess("http.server", "0", "--bind", "127.0.0.1")
    assert child.result(0.5).code is None
    assert not psutil.pid_exists(child._process.pid)
    echo = Subprocess("json.tool", "--compact").result(30, given='{"a":  1}')
    assert echo == ProcessResult(0, '{"a":1}\n', "")
    assert Subprocess("json.tool").result(30, given="{").code == 1
