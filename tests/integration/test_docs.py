"""Every command of README and docs composes, and every link in them leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from datamodules.errors import UserError
from engine.composition import compose_run, composed_run
from engine.config_check import check_arguments, check_keys
from engine.overrides import prepare_overrides
from reporting.commands import to_override

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PROGRAMS = ("run.py", "medical-lightning")
NO_EXPERIMENT = ("...", "EXP", "experiment=NAME")  # stand for any experiment
OWN_EXPERIMENT = (
    "experiment=mine"  # which a page tells to write: tests/integration/test_user_code.py
)
EXPERIMENTS = {  # of the pages whose tables show overrides
    "augmentation.md": ["unetpp_brain_tumor"],
    "bone_scans.md": ["weak_bone_scan", "pseudo_mask_bone_scan"],
    "fine_tuning.md": ["unetpp_brain_tumor", "lora_pneumonia"],
    "pneumonia.md": ["lora_pneumonia"],
    "pneumothorax.md": ["curriculum_pnx"],
    "upernet.md": ["upernet_pnx", "upernet_chestx_det"],
}
SEARCH = "hparams_search=unetpp_brain_tumor"
OTHER_PROGRAMS = ("docker build", "git ", "pip ")  # that take the same names


def bash_lines(page: Path) -> list[str]:
    """The lines of all bash blocks; one that ends in a backslash is joined with the next."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands() -> list[tuple[str, str]]:
    """Page and words of each call of our command line, without the comment behind it."""
    found = []
    for page in PAGES:
        for line in bash_lines(page):
            words = shlex.split(line, comments=True)
            calls = [i for i, word in enumerate(words) if Path(word).name in PROGRAMS]
            if calls and not line.startswith(OTHER_PROGRAMS) and OWN_EXPERIMENT not in words:
                own = [word for word in words[calls[0] + 1 :] if word != "&"]
                found.append((page.name, shlex.join(own)))
    return found


def first_trial(override: Override) -> str:
    """The override of a sweep's first trial; one that is not swept stays."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    if isinstance(value, IntervalSweep):
        return to_override(override.get_key_element(), value.start)
    return to_override(override.get_key_element(), next(override.sweep_iterator()))


def test_commands_were_found():
    assert len(commands()) > 80 and len({page for page, _ in commands()}) > 8


@pytest.mark.parametrize(
    ("page", "command"), {words: (page, words) for page, words in commands()}.values()
)  # each once
def test_a_command_of_the_documentation_composes(page, command, tmp_path):
    words = [word for word in shlex.split(command) if word not in ("-m", "--cfg", "job", "--help")]
    if set(words) & set(NO_EXPERIMENT):
        words = [word for word in words if word not in NO_EXPERIMENT]
        words.insert(0, "experiment=unetpp_brain_tumor")
    words = [word for word in words if not word.startswith(("hydra/", "hydra."))]
    words = [word.replace("hparams_search=NAME", SEARCH) for word in words]
    parsed = OverridesParser.create().parse_overrides(prepare_overrides(words))
    first = [first_trial(override) for override in parsed]
    with composed_run(compose_run(first), first, tmp_path) as cfg:
        check_keys(cfg)
        if not any("=DIR" in word or word.endswith("=RUN") for word in words):
            check_arguments(cfg)


def overrides_in_tables() -> list[tuple[str, str]]:
    """Page and overrides of each first cell of a table that shows overrides."""
    return [
        (name, code)
        for name in EXPERIMENTS
        for row in re.findall(r"^\| (.*?) \|", (ROOT / "docs" / name).read_text(), re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", row)
        if "=" in code and ("." in code.split("=")[0] or "/" in code.split("=")[0])
    ]


@pytest.mark.parametrize(("page", "overrides"), overrides_in_tables())
def test_an_override_in_a_table_composes_with_an_experiment_of_its_page(page, overrides, tmp_path):
    words, refusals = shlex.split(overrides), []
    for experiment in EXPERIMENTS[page]:
        asked = [f"experiment={experiment}", *words]
        try:
            first = prepare_overrides(asked)
            with composed_run(compose_run(first), first, tmp_path) as cfg:
                check_keys(cfg)
                return
        except UserError as refusal:
            refusals.append(str(refusal))
    pytest.fail("; ".join(refusals))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^]]+\]: (\S+)$", text, re.M)
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+://", link):
            assert link.startswith("https://"), link
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT) and file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 100


def test_every_page_of_docs_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme
    ] == []
