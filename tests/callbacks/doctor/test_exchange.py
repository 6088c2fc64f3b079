"""Tests of the collective checks: gloo and NCCL (two GPUs or more) and their time limits."""

import socket

import psutil
import torch

from callbacks.doctor import exchange
from callbacks.doctor.child import Child, Outcome
from tests.callbacks.doctor.conftest import H100, STOPS, WARNS, config, only


def test_gloo_really_adds_up(plain):
    answer = exchange.gloo(plain)
    assert (
        not answer.findings and answer.known["works"] and answer.known["megabytes_per_second"] > 0
    ), answer


def test_gloo_that_really_fails(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nothing9")
    outcomes = exchange.together("gloo", 2)
    assert [outcome.code for outcome in outcomes] == [1, 1]
    monkeypatch.setattr(exchange, "together", lambda backend, processes: outcomes)
    only(
        exchange.gloo(config()),
        WARNS,
        "cannot exchange gradients by gloo (",
        "GLOO_SOCKET_IFNAME=nothing9 is no interface here, take one of lo",
    )
    only(
        exchange.gloo(config("trainer.devices=2", "trainer.accelerator=cpu")),
        STOPS,
        "gloo",
        "or unset it",
    )
    assert "enforce fail at" not in exchange.gloo(config()).findings[0].what


def test_a_host_name_that_does_not_resolve(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *which: (_ for _ in ()).throw(socket.gaierror())
    )
    monkeypatch.setattr(
        exchange,
        "together",
        lambda backend, processes: [Outcome(1, "", "RuntimeError: no address")] * 2,
    )
    only(
        exchange.gloo(config()),
        WARNS,
        "no address",
        "set GLOO_SOCKET_IFNAME=lo, or add the name to /etc/hosts",
    )
    monkeypatch.setattr(
        exchange, "together", lambda backend, processes: [Outcome(0, "800.0\n", "")] * 2
    )
    assert not exchange.gloo(config()).findings
    only(
        exchange.gloo(config("trainer.num_nodes=2")),
        STOPS,
        "host name does not resolve, by which 2 nodes",
        "/etc/hosts",
    )


def test_nccl_is_tried_where_there_are_two_gpus_and_only_there(gpus, monkeypatch):
    tried = []
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(
        exchange,
        "together",
        lambda backend, processes: (
            tried.append(backend) or [Outcome(0, "9000\n", ""), Outcome(None, "", "")]
        ),
    )
    gpus(H100)
    assert not exchange.nccl(config()).findings and not tried
    gpus(H100, H100)
    only(
        exchange.nccl(config("trainer.devices=2")),
        STOPS,
        "by NCCL (no answer within 45 s)",
        "NCCL_DEBUG=INFO",
    )
    only(exchange.nccl(config()), WARNS, "by NCCL", "NCCL_P2P_DISABLE=1")
    monkeypatch.setattr(
        exchange, "together", lambda backend, processes: [Outcome(0, "9000\n", "")] * 2
    )
    assert exchange.nccl(config("trainer.devices=2")).known[
        "megabytes_per_second"
    ] == 9000 and tried == ["nccl", "nccl"]


def test_processes_that_do_not_end_are_ended_with_all_they_started():
    child = Child("http.server", "0", "--bind", "127.0.0.1")
    assert child.outcome(0.5).code is None
    assert not psutil.pid_exists(child._process.pid)
    echo = Child("json.tool", "--compact").outcome(30, given='{"a":  1}')
    assert echo == Outcome(0, '{"a":1}\n', "")
    assert Child("json.tool").outcome(30, given="{").code == 1
