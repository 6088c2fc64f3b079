"""Assembly of a bundle's predict.py from the sources of this repository.

One file that a person can read and that needs neither this repository nor PyTorch: the modules
follow each other, without their imports of one another. So what reads an image and decides in a
hospital is the code that read and decided in the test.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "datamodules.errors",
    "datamodules.formats.file_content",
    "datamodules.formats.gray_levels",
    "datamodules.formats.image_files",
    "datamodules.formats.file_names",
    "datamodules.formats.atomic_write",
    "datamodules.image_size",
    "datamodules.loading.letterbox",
    "datamodules.formats.png",
    "datamodules.formats.image_io",
    "datamodules.formats.dicom",
    "evaluation.logit_bins",
    "evaluation.decision_rule",
    "deployment.inference",
    "deployment.bundle_reader",
    "deployment.dicom_objects",
    "deployment.result_files",
    "deployment.bundle_main",
)
OPTIONAL_MODULES = ("deployment.dicom_objects",)
PACKAGES = ("datamodules", "evaluation", "deployment")
LATE_PACKAGES = ("pydicom",)  # imported by the functions that use them, as they take long
HEADER = '''"""Predict masks or labels of medical images by the network beside this file.

    python predict.py film.dcm folder/ --out results/

Needs: pip install onnxruntime numpy opencv-python-headless pillow pydicom
       (and highdicom for --dicom; python-gdcm and pyjpegls for compressed DICOMs)

Research software, no medical device. Apache License 2.0. This file was assembled from the sources
of medical-lightning{version}; each part names its module there.
"""

from __future__ import annotations

'''
FOOTER = """
if __name__ == "__main__":
    sys.exit(main())
"""


class Source(NamedTuple):
    """Source of one module without what ties it to the repository.

    Attributes:
        name: Dotted name of the module.
        title: First line of its docstring.
        imports: Import statements of other packages, at the head of the file.
        type_imports: Statements that only annotations need.
        body: Everything else.
        names: Names that its top level defines.
    """

    name: str
    title: str
    imports: list[str]
    type_imports: list[str]
    body: str
    names: list[str]


def assemble(version: str = "", root: Path = ROOT) -> str:
    """Return the text of predict.py.

    Args:
        version: Version of this repository, for the header.
        root: Folder that holds the packages.

    Raises:
        ValueError: A source cannot be part of one file; see `read_source`, `check_names`.
    """
    names = [name for name in MODULES if _path(root, name).is_file()]
    missing = [name for name in MODULES if name not in (*names, *OPTIONAL_MODULES)]
    if missing:
        raise ValueError(f"{', '.join(missing)} does not exist")
    sources = [read_source(name, _path(root, name), names) for name in names]
    check_names(sources)
    imports = _join_imports(line for source in sources for line in source.imports)
    types = _join_imports(line for source in sources for line in source.type_imports)
    parts = [HEADER.format(version=f" {version}" if version else ""), "\n".join(imports)]
    parts.append("\n\nif TYPE_CHECKING:\n" + "\n".join(f"    {line}" for line in types))
    for source in sources:
        rule = "# " + "-" * 98
        head = f"\n\n\n{rule}\n# {source.name}: {source.title}\n{rule}\n\n"
        parts.append(head + source.body.strip("\n"))
    text = re.sub(r"\n{4,}", "\n\n\n", "".join(parts) + "\n\n" + FOOTER)
    ast.parse(text)
    return text


def _path(root: Path, name: str) -> Path:
    return root / f"{name.replace('.', '/')}.py"


def _join_imports(lines: Iterable[str]) -> list[str]:
    """Sort statements of one name each, and join those from one module."""
    modules: dict[str, list[str]] = {}
    plain = []
    for line in sorted(set(lines)):
        before, _, name = line.partition(" import ")
        if before.startswith("from "):
            modules.setdefault(before, []).append(name)
        else:
            plain.append(line)
    return [*plain, *(f"{module} import {', '.join(names)}" for module, names in modules.items())]


def read_source(name: str, path: Path, together: Sequence[str]) -> Source:
    """Read a module and take out its imports.

    Imports of modules that are part of the file go; those of other modules of this repository
    become an error where they stand, because what follows them cannot run.

    Args:
        name: Dotted name of the module.
        path: File of the module.
        together: Modules that are part of the file.

    Raises:
        ValueError: A module of this repository is imported in a way that cannot be taken out.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines: list[str | None] = list(text.splitlines())
    docstring = tree.body[0]
    _erase(lines, docstring)
    imports: list[str] = []
    late: dict[str, str] = {}
    types: list[str] = []
    for node in tree.body[1:]:
        if isinstance(node, ast.If) and _is_type_checking(node):
            _erase(lines, node)
            types += [line for each in node.body for line in _type_imports(each, together)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            _erase(lines, node)
            package = _package(node)
            if package in PACKAGES:
                _check_import(name, node, together)
            elif package in LATE_PACKAGES:
                late |= _late_imports(node)
            else:
                imports += _split_import(node)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            _erase_inner_imports(name, node, lines, together)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        _insert_late_imports(function, lines, late)
    types += [late[used] for used in _annotation_names(tree) if used in late]
    _check_late_names(name, tree, late)
    body = "\n".join(line for line in lines if line is not None)
    title = (ast.get_docstring(tree) or "").splitlines()[0]
    return Source(name, title, imports, types, body, list(_defined_names(tree)))


def check_names(sources: Sequence[Source]) -> None:
    """Refuse modules that define the same name, of which one would replace the other.

    Raises:
        ValueError: Two define or import the same name for different things.
    """
    owner: dict[str, str] = {}
    for source in sources:
        for name in source.names:
            if name in owner:
                raise ValueError(
                    f"{owner[name]} and {source.name} both define {name}, so they cannot be in one"
                    " file; rename one of them"
                )
            owner[name] = source.name
    for source in sources:
        for line in source.imports:
            name = line.rpartition(" ")[2]
            if owner.get(name):
                raise ValueError(f"{owner[name]} defines {name}, which {source.name} imports")


def _erase(lines: list[str | None], node: ast.stmt) -> None:
    for number in range(node.lineno - 1, node.end_lineno or node.lineno):
        lines[number] = None


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _package(node: ast.stmt) -> str:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").partition(".")[0]
    if isinstance(node, ast.Import):
        return node.names[0].name.partition(".")[0]
    return ""


def _check_import(name: str, node: ast.stmt, together: Sequence[str]) -> None:
    """Refuse an import of a whole module, under another name, or of a module that is not there."""
    plain = isinstance(node, ast.ImportFrom) and all(each.asname is None for each in node.names)
    if not plain or (isinstance(node, ast.ImportFrom) and node.module not in together):
        raise ValueError(f"{name} has `{ast.unparse(node)}`, which cannot stand in a single file")


def _split_import(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return one statement per imported name, so that equal ones can be joined."""
    if isinstance(node, ast.Import):
        return [f"import {_alias(each)}" for each in node.names]
    return [f"from {node.module} import {_alias(each)}" for each in node.names]


def _type_imports(node: ast.stmt, together: Sequence[str]) -> list[str]:
    """Return the statements of an import under TYPE_CHECKING; a class that is not there is Any."""
    if not isinstance(node, ast.ImportFrom):
        raise ValueError(f"`{ast.unparse(node)}` is no import of names")
    if _package(node) not in PACKAGES:
        return _split_import(node)
    return [] if node.module in together else [f"{each.name} = Any" for each in node.names]


def _alias(each: ast.alias) -> str:
    return f"{each.name} as {each.asname}" if each.asname else each.name


def _late_imports(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Map each imported name to the statement that imports it."""
    return {line.rpartition(" ")[2]: line for line in _split_import(node)}


def _erase_inner_imports(
    name: str, function: ast.stmt, lines: list[str | None], together: Sequence[str]
) -> None:
    """Take out the imports inside a function; see `read_source`."""
    for block in _blocks(function):
        for place, node in enumerate(block):
            if not isinstance(node, ast.ImportFrom) or _package(node) not in PACKAGES:
                continue
            if node.module in together:
                _check_import(name, node, together)
                _erase(lines, node)
                continue
            for unreachable in block[place:]:
                _erase(lines, unreachable)
            missing = node.module or ""
            message = f"this file holds no {missing}; use the repository instead"
            lines[node.lineno - 1] = " " * node.col_offset + f'raise UserError("{message}")'
            break


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield every list of statements below a node."""
    for each in ast.walk(node):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(each, field, None)
            if isinstance(block, list) and block:
                yield block


def _insert_late_imports(
    function: ast.FunctionDef, lines: list[str | None], late: dict[str, str]
) -> None:
    """Put the imports that a function needs behind its docstring."""
    used = _join_imports(late[name] for name in _evaluated_names(function) if name in late)
    if not used:
        return
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    indent = " " * first.col_offset
    text = "\n".join(indent + line for line in used) + "\n"
    number = (first.end_lineno or first.lineno) - 1 if documented else first.lineno - 1
    line = lines[number]
    if line is None:  # an import that was taken out stood there
        lines[number] = text
    else:
        lines[number] = f"{line}\n{text}" if documented else f"{text}{line}"


def _evaluated_names(function: ast.FunctionDef) -> set[str]:
    """Return the names that a function reads, without those of annotations and inner functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            continue
        elif isinstance(node, ast.AnnAssign):
            waiting += [each for each in (node.target, node.value) if each is not None]
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _annotation_names(tree: ast.AST) -> set[str]:
    """Return the names that annotations read."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if (annotation := getattr(node, field, None)) is not None:
                found |= {each.id for each in ast.walk(annotation) if isinstance(each, ast.Name)}
    return found


def _check_late_names(name: str, tree: ast.Module, late: dict[str, str]) -> None:
    """Refuse a module that uses such a package outside of functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if not _is_type_checking(node):
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & late.keys()
            if used:
                raise ValueError(f"{name} uses {', '.join(sorted(used))} outside of a function")


def _defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that functions, classes and assignments of the top level define."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for each in (each for target in targets for each in ast.walk(target)):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    yield each.id
