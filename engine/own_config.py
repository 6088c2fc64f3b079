"""do=[init]: write the configuration of a data set of your own, to be edited."""

import re
from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import UserError
from datamodules.own_data import OwnDataModule
from reporting.data_page import short_description

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_name(name: Any) -> str:
    """Return the name of a new data set.

    Raises:
        UserError: It cannot be the name of a configuration file.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(
            f"name={name if name is not None else 'null'} cannot name a file of conf; write a word,"
            " such as name=liver"
        )
    return name


def write_own_config(data: Any, name: str, image_size: Any, folder: Path) -> list[Path]:
    """Write conf/datamodule/NAME.yaml and conf/experiment/TASK_NAME.yaml; return their paths.

    Args:
        data: The data set, read and checked.
        name: Its name.
        image_size: Size of the network's input, as a user writes it.
        folder: Folder that holds `conf`, or in which it is created.

    Raises:
        UserError: The data set is not one of `datamodule=own_data`, or a file exists.
    """
    if not isinstance(data, OwnDataModule):
        raise UserError("do=[init] describes a folder; take datamodule=own_data")
    task = "segmentation" if data.task == "masks" else "classification"
    files = {
        folder / "conf" / "datamodule" / f"{name}.yaml": _datamodule_yaml(data, name),
        folder / "conf" / "experiment" / f"{task}_{name}.yaml": _experiment_yaml(
            data, name, task, image_size
        ),
    }
    for path in files:
        if path.exists():
            raise UserError(f"{path} exists; choose another name=..., or delete it")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def _datamodule_yaml(data: OwnDataModule, name: str) -> str:
    reading = data.table.mask_reading
    lines = [f"# {name}, as do=[init] read it; the other keys and their comments: own_data.yaml"]
    lines += [f"# {heading}: {sentence}" for heading, sentence in short_description(data).items()]
    lines += ["defaults: [own_data, _self_]", ""]
    lines += [_key("root", str(data.root.resolve())), _key("layout", data.match.layout.name)]
    lines += [_key("task", data.task)]
    if reading is not None and len(reading.classes) > 1:
        values = {
            value: [reading.classes[c] for c in of]
            for value, of in reading.channels.items()
            if of and (isinstance(value, int) or reading.palette is False)
        }
        named = {value: of[0] if len(of) == 1 else of for value, of in values.items()}
        lines += [f"{_key('mask_values', named)}   # rename the classes here and in the experiment"]
    if data.ignore_value is not None:
        lines += [_key("ignore_value", data.ignore_value)]
    if data.group_pattern is not None:
        lines += [_key("group_pattern", data.group_pattern.pattern)]
    else:
        lines += [
            "group_pattern: null   # a regular expression whose first group is the patient, such as"
            " '(case\\d+)_'"
        ]
    changed: dict[str, tuple[Any, Any]] = {
        "columns": (dict(data.options.columns), {}),
        "table": (data.options.table, None),
        "rle_size": (data.options.rle_size, None),
        "normalized": (data.options.normalized, False),
        "boxes": (data.boxes, "refuse"),
        "inverted_masks": (data.inverted_masks, "refuse"),
        "split": (data.split, "folders"),
        "window": (None if data.window is None else list(data.window), None),
        "channels": (data.channels, 1),
        "frame": (data.frame, None),
        "axis": (data.axis, "auto"),
        "empty_slices": (data.empty_slices, "keep"),
    }
    lines += [_key(name, value) for name, (value, usual) in changed.items() if value != usual]
    lines += [
        _key("unannotated", data.unannotated)
        + "   # images without annotation: drop, negative or refuse",
        'image_kind: ""        # what the images are, in the plural, for the heading of pages',
    ]
    return "\n".join(lines) + "\n"


def _experiment_yaml(data: OwnDataModule, name: str, task: str, image_size: Any) -> str:
    classes = ", ".join(data.table.classes)
    return f"""\
# @package _global_
# {task.capitalize()} of {name}: {classes}.
defaults:
  - /experiment/{task}@_global_
  - override /datamodule: {name}
  - _self_
{_key("image_size", image_size)}
module:
  {_key("classes", list(data.table.classes))}
trainer: {{max_epochs: {60 if task == "segmentation" else 40}}}
"""


def _key(name: str, value: Any) -> str:
    """Return one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return f"{name}: {text.strip().removesuffix('...').strip()}"
