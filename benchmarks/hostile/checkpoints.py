"""Hostile checkpoints: cut, flipped, of wrong types, of other programs, bombs and payloads."""

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import Template, reference_words
from reporting.run_folder import RunFolder

KIND = "checkpoints"
KINDS = (KIND,)
EVALUATES = 8.0  # seconds of a whole test or fit on a busy machine
CUTS = 20
FLIPS = 24
RECORD = "training_record"
WRONG: dict[str, Any] = {
    "null": None,
    "text": "abc",
    "list of lists": [[[]]],
    "mapping": {"a": {"b": [1]}},
    "tensor": torch.zeros(2, 2),
    "huge number": 10**400,
    "NaN": float("nan"),
}
TOP_KEYS = (
    *("state_dict", "epoch", "global_step", "loops", "callbacks", "optimizer_states"),
    *("lr_schedulers", "random_states", "settings", RECORD, "rule_precision"),
    "pytorch-lightning_version",
)
RECORD_KEYS = (
    *("version", "content", "ids", "allow_leaks", "classes", "exclusive", "channels"),
    *("image_size", "configured_size", "cache_size", "frame", "window", "pretrained"),
    "normalization",
)
ONE_OF = {"top": ("null", "text", "list of lists", "huge number"), "record": tuple(WRONG)}


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of checkpoints."""
    for experiment in ("classification", "segmentation"):
        yield from _damaged(template, experiment)
    yield from _types(template)
    yield from _weights(template)
    yield from _resumed(template)
    yield from _foreign(template)


def _case(
    template: Template,
    name: str,
    damage: Callable[[Path], None],
    experiment: str = "classification",
    resume: bool = False,
    right: bool = True,
    names: tuple[str, ...] = (".ckpt",),
    may_refuse: bool = True,
) -> Case:
    """Return a case that damages both checkpoints of a copied run, and tests or resumes it.

    Args:
        right: True if the scores of the undamaged checkpoint are accepted too.
    """

    def prepare(folder: Path) -> Action:
        run = template.copy_run(experiment, folder / "data" / "run")
        for path in sorted((run / "checkpoints").glob("*.ckpt")):
            damage(path)
        words = reference_words(run)[int(resume)]
        return lambda: _run(template, experiment, folder / "runs", *words)

    reference = template.folder / "reference" / experiment / str(int(resume))
    return Case(
        KIND,
        f"{experiment}, {'fit' if resume else 'test'}: {name}",
        prepare,
        names,
        (lambda run: _same(run.path, reference, resume)) if right else None,
        may_refuse,
        EVALUATES,
    )


def _run(template: Template, experiment: str, runs: Path, *words: str) -> RunFolder:
    """Run without drawing a page, which takes longer than all that is looked at here."""
    import callbacks.report_writer
    import reporting.leaderboard

    callbacks.report_writer.write_page = lambda found, evidence, cases, run_dir, *_: run_dir
    reporting.leaderboard.update_leaderboard = lambda *_: None
    return template.run(experiment, runs, *words)


def _same(found: Path, reference: Path, resume: bool) -> bool:
    """Return True if scores, or logged values, are those of the undamaged checkpoint."""
    if resume:
        ours, theirs = ((place / "metrics.csv").read_text() for place in (found, reference))
        return _losses(ours) == _losses(theirs)
    ours, theirs = (
        json.loads((place / "report.json").read_text())["scores"]["test"]
        for place in (found, reference)
    )
    return bool(ours == theirs)


def _losses(text: str) -> list[list[str]]:
    """Return the rows of metrics.csv without the columns of time and hardware."""
    rows = [line.split(",") for line in text.splitlines()]
    kept = [n for n, name in enumerate(rows[0]) if name.startswith(("train/loss", "val/", "epoch"))]
    return [[row[n] for n in kept] for row in rows]


def _damaged(template: Template, experiment: str) -> Iterator[Case]:
    """Yield cut files and flipped bits; the small checkpoint gets most of them."""
    small = experiment == "classification"
    for n in range(CUTS if small else 3):

        def cut(path: Path, n: int = n) -> None:
            size = path.stat().st_size
            os.truncate(path, size * n // CUTS)

        yield _case(template, f"cut at {100 * n // CUTS} %", cut, experiment, n % 3 == 2, False)
    for n in range(FLIPS if small else 3):

        def flip(path: Path, n: int = n) -> None:
            data = bytearray(path.read_bytes())
            place = int(np.random.default_rng(n).integers(len(data)))
            data[place] ^= 1 << (n % 8)
            path.write_bytes(data)

        yield _case(template, f"one flipped bit ({n})", flip, experiment, n % 4 == 3)

    def zeroed(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(bytes(4096))

    yield _case(template, "a zeroed page", zeroed, experiment, False, False)


def _changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a function that rewrites a checkpoint with changed content."""

    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        replaced = change(content)
        torch.save(content if replaced is None else replaced, path)

    return damage


def _types(template: Template) -> Iterator[Case]:
    """Yield every key of ours with values of other types, and without the key."""
    for key in TOP_KEYS:
        for kind in ONE_OF["top"]:

            def put(content: dict[str, Any], key: str = key, kind: str = kind) -> None:
                content[key] = WRONG[kind]

            resume = key not in ("state_dict", RECORD, "rule_precision")
            yield _case(template, f"{key} is {kind}", _changed(put), resume=resume)

        def drop(content: dict[str, Any], key: str = key) -> None:
            content.pop(key)

        yield _case(template, f"no {key}", _changed(drop), resume=key not in ("state_dict", RECORD))
    for key in RECORD_KEYS:
        for kind in ONE_OF["record"]:

            def put_in(content: dict[str, Any], key: str = key, kind: str = kind) -> None:
                content[RECORD][key] = WRONG[kind]

            yield _case(template, f"{RECORD}.{key} is {kind}", _changed(put_in))

        def drop_in(content: dict[str, Any], key: str = key) -> None:
            content[RECORD].pop(key)

        yield _case(template, f"{RECORD} has no {key}", _changed(drop_in))


def _weights(template: Template) -> Iterator[Case]:
    """Yield state_dicts whose weights are no numbers, or none that a network can have."""

    def first(state: dict[str, Any]) -> str:
        return next(
            name
            for name, value in state.items()
            if getattr(value, "ndim", 0) == 4 and "net" in name
        )

    changes: dict[str, Callable[[torch.Tensor], Any]] = {
        "a list for a tensor": lambda value: value.tolist(),
        "null for a tensor": lambda value: None,
        "text for a tensor": lambda value: "weights",
        "NaN in a tensor": lambda value: value.clone().index_fill_(0, torch.tensor([0]), np.nan),
        "infinity in a tensor": lambda value: value.clone().index_fill_(
            0, torch.tensor([0]), np.inf
        ),
        "complex numbers": lambda value: value.to(torch.complex64),
        "whole numbers": lambda value: value.to(torch.int64),
        "another shape": lambda value: value[:1],
        "a sparse tensor": lambda value: value.to_sparse(),
        "an expanded tensor of 1 TB": lambda value: torch.zeros(1).expand(2**38),
        "a meta tensor": lambda value: torch.empty(value.shape, device="meta"),
    }
    for experiment in ("classification", "segmentation"):
        for name, change in changes.items():
            for resume in (False, True):
                if resume and (experiment == "segmentation" or name == "whole numbers"):
                    continue

                def put(content: dict[str, Any], change: Any = change) -> None:
                    state = content["state_dict"]
                    key = first(state)
                    state[key] = change(state[key])

                yield _case(template, name, _changed(put), experiment, resume, False)
    for name, value in {
        "a mean that is NaN": torch.full((1, 1, 1, 1), float("nan")),
        "a standard deviation of 0": torch.zeros(1, 1, 1, 1),
        "a standard deviation below 0": torch.full((1, 1, 1, 1), -1.0),
    }.items():

        def statistics(content: dict[str, Any], name: str = name, value: Any = value) -> None:
            content["state_dict"]["normalize.mean" if "mean" in name else "normalize.std"] = value

        yield _case(template, name, _changed(statistics), right=False)

    for kind in ("null", "text", "list of lists", "mapping", "huge number", "NaN"):

        def rule(content: dict[str, Any], kind: str = kind) -> None:
            content["state_dict"]["rule._extra_state"] = WRONG[kind]

        yield _case(template, f"the rule is {kind}", _changed(rule), right=False)

        def whole(content: dict[str, Any], kind: str = kind) -> Any:
            return WRONG[kind]

        if kind != "null":  # for which `_changed` keeps the content
            yield _case(template, f"the file is {kind}", _changed(whole), right=False)


def _resumed(template: Template) -> Iterator[Case]:
    """Yield states of training that do not fit, and paths that lead out of the run."""

    def no_optimizer(content: dict[str, Any]) -> None:
        content["optimizer_states"] = []

    yield _case(
        template, "empty optimizer_states", _changed(no_optimizer), resume=True, right=False
    )

    def without(content: dict[str, Any]) -> None:
        for key in ("optimizer_states", "lr_schedulers", "loops", "callbacks"):
            content.pop(key, None)

    yield _case(template, "weights alone", _changed(without), resume=True, right=False)

    def no_moments(content: dict[str, Any]) -> None:
        content["optimizer_states"][0]["state"] = {}

    yield _case(
        template, "an optimizer without moments", _changed(no_moments), resume=True, right=False
    )

    def nan_moments(content: dict[str, Any]) -> None:
        for state in content["optimizer_states"][0]["state"].values():
            state["exp_avg"].fill_(float("nan"))

    yield _case(template, "moments that are NaN", _changed(nan_moments), resume=True, right=False)

    def groups(content: dict[str, Any]) -> None:
        content["optimizer_states"][0]["param_groups"] = []

    yield _case(template, "no groups of parameters", _changed(groups), resume=True, right=False)
    for name, target in (("/etc/passwd", "/etc/passwd"), ("a link of ..", "../../secret.txt")):

        def prepare(folder: Path, target: str = target) -> Action:
            run = template.copy_run("classification", folder / "data" / "run")
            (folder / "secret.txt").write_text("secret")
            place = Path(target) if target.startswith("/") else folder / "secret.txt"

            def steal(content: dict[str, Any]) -> None:
                for state in content["callbacks"].values():
                    if "best_k_models" in state:
                        state["best_k_models"] = {str(place): torch.tensor(0.9)}
                        state["best_model_path"] = str(place)
                        state["dirpath"] = "/elsewhere"

            for path in (run / "checkpoints").glob("*.ckpt"):
                _changed(steal)(path)
            words = reference_words(run)[1]
            return lambda: _run(template, "classification", folder / "runs", *words)

        yield Case(
            KIND,
            f"best_k_models names {name}",
            prepare,
            (".ckpt",),
            lambda run: (
                not any(path.name in ("passwd", "secret.txt") for path in run.path.rglob("*"))
            ),
            seconds=EVALUATES,
        )


class _Payload:
    """Object that would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/hostile-payload-was-run",)


def _foreign(template: Template) -> Iterator[Case]:
    """Yield files that are no checkpoints, bombs and payloads."""

    def pickled(path: Path) -> None:
        path.write_bytes(pickle.dumps({"state_dict": _Payload()}))

    def zipped_payload(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"] = _Payload()
        torch.save(content, path)

    def bomb(path: Path) -> None:
        _rewrite(path, lambda name, data: (data, zipfile.ZIP_DEFLATED), extra=2**31)

    def nested(path: Path) -> None:
        deep: Any = []
        for _ in range(400):
            deep = [deep]
        torch.save({"state_dict": {}, RECORD: deep}, path)

    def keras(path: Path) -> None:
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))

    def onnx(path: Path) -> None:
        path.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(200))

    def safetensors(path: Path) -> None:
        from safetensors.torch import save_file

        save_file({"net.weight": torch.zeros(3)}, path)

    def huge_header(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", 2**62) + b'{"a":1}')

    def text(path: Path) -> None:
        path.write_text("<!DOCTYPE html><html><body>Sign in to continue</body></html>")

    def timm_like(path: Path) -> None:
        torch.save({"state_dict": OrderedDict(conv1=torch.zeros(3)), "arch": "resnet"}, path)

    def bare_state(path: Path) -> None:
        torch.save(torch.load(path, weights_only=True)["state_dict"], path)

    def numpy_file(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.zeros(5))

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def fifo(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    def endless(path: Path) -> None:
        path.unlink()
        path.symlink_to("/dev/zero")

    def sparse(path: Path) -> None:
        path.write_bytes(b"PK\x03\x04")
        os.truncate(path, 3 * 2**30)

    def two_names(path: Path) -> None:
        _rewrite(path, lambda name, data: (data, zipfile.ZIP_STORED), twice=True)

    for damage in (
        *(pickled, zipped_payload, bomb, nested, keras, onnx, safetensors, huge_header, text),
        *(timm_like, bare_state, numpy_file, folder, fifo, endless, sparse),
    ):
        for resume in (False, True):
            yield _case(template, damage.__name__, damage, resume=resume, right=False)
    yield _case(template, two_names.__name__, two_names)


def _rewrite(path: Path, change: Any, extra: int = 0, twice: bool = False) -> None:
    """Write the entries of a zip again; `extra` adds a compressed entry of so many zeros."""
    with zipfile.ZipFile(path) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in entries.items():
            data, method = change(name, data)
            new.writestr(name, data, method)
        if extra:
            top = next(iter(entries)).partition("/")[0]
            block = bytes(2**24)
            largest = max(
                (name for name in entries if "/data/" in name), key=lambda name: len(entries[name])
            )
            with new.open(
                zipfile.ZipInfo(f"{top}/data/{largest.rpartition('/')[2]}x"), "w", force_zip64=True
            ) as file:
                for _ in range(extra // len(block)):
                    file.write(block)
        if twice:
            name = next(iter(entries))
            new.writestr(name, entries[name] + b"x")
