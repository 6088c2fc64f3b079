"""predict.py is assembled from our sources: it imports none of them and has no name twice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from deployment.standalone import MODULES, PACKAGES, assemble, check_names, read_source

ROOT = Path(__file__).parents[3]


def test_nothing_of_the_repository_is_imported_and_no_name_is_missing(tmp_path):
    text = assemble("1.2")
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
    }
    assert not imported & {*PACKAGES, "lightning_modules", "pydantic"}
    path = tmp_path / "predict.py"
    path.write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_function_of_the_sources_is_there_once():
    text = assemble()
    defined = [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert len(defined) == len(set(defined))
    for name in ("read_dicom", "Letterbox", "apply_mask_rule", "encode_levels", "main"):
        assert name in defined


def test_pydicom_is_imported_only_where_it_is_used():
    top = ast.parse(assemble()).body
    modules = [(node.module or "") for node in top if isinstance(node, ast.ImportFrom)]
    modules += [each.name for node in top if isinstance(node, ast.Import) for each in node.names]
    assert not [
        name for name in modules if name.startswith(("pydicom", "onnxruntime", "highdicom"))
    ]


def write_module(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(f'"""A module."""\n\n{text}')
    return path


def test_two_modules_with_one_name_are_refused(tmp_path):
    first = read_source("a", write_module(tmp_path, "a", "def load():\n    pass\n"), ["a", "b"])
    second = read_source("b", write_module(tmp_path, "b", "load = 3\n"), ["a", "b"])
    with pytest.raises(ValueError, match="a and b both define load"):
        check_names([first, second])


def test_a_name_that_another_module_imports_is_refused(tmp_path):
    first = read_source("a", write_module(tmp_path, "a", "def replace():\n    pass\n"), ["a", "b"])
    text = "from dataclasses import replace\n"
    second = read_source("b", write_module(tmp_path, "b", text), ["a", "b"])
    with pytest.raises(ValueError, match="a defines replace, which b imports"):
        check_names([first, second])


@pytest.mark.parametrize(
    "text",
    [
        "from evaluation import logit_bins\n",
        "from evaluation.logit_bins import bin_of as of\n",
        "from evaluation.evidence import Evidence\n",
        "import evaluation.logit_bins\n",
    ],
)
def test_imports_that_cannot_be_taken_out_are_refused(tmp_path, text):
    path = write_module(tmp_path, "a", text)
    with pytest.raises(ValueError, match="cannot stand in a single file"):
        read_source("a", path, ["a", "evaluation.logit_bins"])


def test_what_follows_the_import_of_a_module_that_is_not_there_becomes_an_error(tmp_path):
    text = (
        "def read(path):\n    if path:\n"
        "        from datamodules.formats.volumes import read_slice\n\n"
        "        return read_slice(path)\n    return 1\n"
    )
    body = read_source("a", write_module(tmp_path, "a", text), ["a"]).body
    names = {}
    exec(compile(f"class UserError(Exception): pass\n{body}", "a", "exec"), names)
    assert names["read"]("") == 1
    with pytest.raises(names["UserError"], match=r"holds no datamodules\.formats\.volumes"):
        names["read"]("x.nii")


def test_the_modules_exist():
    missing = [name for name in MODULES if not (ROOT / f"{name.replace('.', '/')}.py").is_file()]
    assert set(missing) <= {"deployment.dicom_objects"}
