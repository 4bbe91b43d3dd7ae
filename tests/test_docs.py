"""The documents: links lead somewhere, commands run or are marked, flags and settings exist, messages are real."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import signs_dist
from signs_dist.cli import find_module as find_command
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, signs_files, write_files, write_zip
from tests.markdown_pages import (
    LANGUAGES,
    NEEDS,
    Command,
    anchors,
    blocks,
    commands,
    links,
    mapped_files,
    named_files,
    pages,
)
from tests.processes import environment
from tests.sets import write_colour_set
from tests.shared import shared_folder

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [pytest.param(page, id=page.relative_to(REPOSITORY).as_posix()) for page in pages(REPOSITORY)]
SHELL = ("export", ".", "apt-get", "pip", "git", "pre-commit")
"""Programs whose flags are not ours to check."""
NOT_RUN = ("pre-commit",)
"""Unmarked programs that are not run: this one writes a hook into .git."""
EXPLAINED = {"signs_dist.train": ("--explain",), "launch.local": ("--dry-run",)}
"""Commands that are run with a flag that lets them say what they would do."""
RUN = (
    *("signs_dist.evaluate", "signs_dist.predict", "signs_dist.report", "signs_dist.checkpoint", "signs_dist.runs"),
    *("signs_dist.compare", "benchmarks.growth_model"),
    *("signs_dist.inspect", "signs_dist.export"),
    *("signs_dist.data.audit", "signs_dist.data.build", "signs_dist.data.synthetic"),
)
"""Commands that are run as they are, on the small files of the sandbox."""


class ParsedError(Exception):
    """Raised in place of doing anything, once a command's own parser has taken its arguments."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__("the arguments are legal")
        self.options = options


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for number, target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            lost.append(f"{page.name}:{number}: {target}")
    assert not lost


def test_the_index_names_every_page() -> None:
    targets = {target for _, target in links((REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8"))}
    assert {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"README.md"} <= targets


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def unknown_files(text: str) -> list[str]:
    """The files and names in backquotes that the tree does not have; paths count from the top or from signs_dist/."""
    wrong = []
    for line, path, name in named_files(text):
        files = [file for folder in (REPOSITORY, REPOSITORY / "signs_dist") for file in folder.glob(path)]
        sources = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        is_defined = all(
            any(re.search(rf"^ *(def |class )?{part}\b", source, re.MULTILINE) for source in sources)
            for part in name.split(".")
            if part
        )
        if not (files and is_defined):
            wrong.append(f"{line}: {path} {name}".strip())
    return wrong


def test_contributing_names_files_that_exist() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(list(named_files(text))) > 30
    assert not unknown_files(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`training/loop.py` and `signs_dist/errors.py`, `data/`, `tests/data/test_*.py`", []),
        ("`training/lop.py`", ["1: training/lop.py"]),
        ("`tests/data/test_nothing_*.py`", ["1: tests/data/test_nothing_*.py"]),
        ("`distributed/gradient_tree.py: TreeSum.push`", []),
        ("`distributed/gradient_tree.py: TreeSum.pull`", ["1: distributed/gradient_tree.py TreeSum.pull"]),
    ],
)
def test_a_file_that_does_not_exist_is_seen(text: str, wrong: list[str]) -> None:
    assert unknown_files(text) == wrong


def test_the_map_of_the_house_is_the_tree() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (house,) = [block for block in blocks(text) if block.language == "text"]
    named = mapped_files(house)
    assert not [name for name in named if not (REPOSITORY / name).exists()]
    rooms = {f"signs_dist/{file.parent.name}" for file in (REPOSITORY / "signs_dist").glob("*/__init__.py")}
    assert rooms <= {name.rstrip("/") for name in named}
    assert len(house.lines) <= 40, "the map fits on a screen"


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language_and_legal_marks(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = list(blocks(text))
    assert {block.language for block in found} <= {*LANGUAGES, ""}
    assert {block.needs for block in found} <= {*NEEDS, ""}
    assert text.count("<!-- needs:") == sum(bool(block.needs) for block in found), "a mark without a block"


@pytest.mark.parametrize("page", PAGES)
def test_python_and_yaml_are_legal(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "python":
            ast.parse("\n".join(block.lines))
        if block.language == "yaml":
            (tmp_path / "config.yaml").write_text("\n".join(block.lines))
            load_config(tmp_path / "config.yaml")


def test_the_python_page_lists_the_public_names() -> None:
    page = (REPOSITORY / "docs" / "python-api.md").read_text(encoding="utf-8")
    rows = page.partition("## The names")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == sorted(signs_dist.__all__)


@pytest.mark.slow
def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other, as a reader types them into a notebook; the recipe is cut to one epoch."""
    monkeypatch.chdir(tmp_path)
    write_colour_set(tmp_path / "data" / "64x64_SIGNS", counts={"train": 12, "val": 2, "test": 2}, size=64)
    recipe = (REPOSITORY / "configs" / "signs.yaml").read_text(encoding="utf-8")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "signs.yaml").write_text(re.sub(r"\bepochs: \d+", "epochs: 1", recipe))
    page = blocks((REPOSITORY / "docs" / "python-api.md").read_text(encoding="utf-8"))
    lines = [line for block in page if block.language == "python" for line in block.lines]
    (tmp_path / "notebook.py").write_text("\n".join(lines))
    names = runpy.run_path("notebook.py")
    assert names["score"].accuracy == names["result"]["val_accuracy"]
    assert names["step"].steps_done == names["store"].load()["steps_done"]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_legal_flags_and_settings(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    wrong = []
    for command in commands(page.read_text(encoding="utf-8")):
        if why := what_is_wrong(command.words, monkeypatch):
            wrong.append(f"{page.name}:{command.line}: {' '.join(command.words)}: {why}")
    assert not wrong


@pytest.mark.parametrize(
    "line",
    [
        "python -m signs_dist.train --epochs 3",
        "python -m signs_dist.train optim.rl=0.1",
        "CUDA_VISIBLE_DEVICES=1 torchrun --nproc_per_node=4 -m signs_dist.train train.epoch=3",
        "torchrun --nproc-per-nod=4 -m signs_dist.train",
        "torchrun --nproc-per-node=4 signs_dist/train.py runs/a",
        "python examples/own_lop.py runs/a",
        "python -m launch.local --nproc 4 -- --confg configs/signs.yaml",
        "python launch/submit.py --node 4 -- --config configs/signs.yaml",
        "python launch/submit.py status --ranks 3",
        "signs-dist judge",
        "signs-dist local --nprocs 4 -- --config configs/signs.yaml",
        "signs-dist submit --node 4 -- --config configs/signs.yaml",
        "make trian",
        'make train ARGS="optim.rl=3"',
        "pytest tests/test_nothing.py",
        "sbatch slurm/nothing.sbatch",
        "python benchmarks/save_stall.py --gigabytes 3",
        "cargo build",
    ],
)
def test_a_wrong_command_is_seen(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    (command,) = commands(f"```sh\n{line}\n```\n")
    assert what_is_wrong(command.words, monkeypatch)


def what_is_wrong(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Why a command would be refused; "" for one that is legal."""
    try:
        check_command(words, monkeypatch)
    except (AssertionError, ImportError, KeyError, SystemExit, UserError) as error:
        return repr(error)
    return ""


def check_command(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command's own parser read its arguments, and the config its settings; raise where they are not legal."""
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, *rest = [word for word in words if word != "…"]
    program = program.removeprefix(".venv/bin/")
    if program == "python" and rest[0].startswith("examples/"):
        check_example(rest)
    elif program in ("python", "signs-dist"):
        module, arguments = find_module(program, rest)
        parse_only(module, arguments, monkeypatch)
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        parser = get_args_parser()
        parser.allow_abbrev = False
        options = parser.parse_args(rest)
        if options.module:
            parse_only(options.training_script, options.training_script_args, monkeypatch)
        else:
            check_example([options.training_script, *options.training_script_args])
    elif program == "make":
        check_make(rest, monkeypatch)
    elif program == "sbatch":
        own = next(number for number, word in enumerate(rest) if not word.startswith("-"))
        assert (REPOSITORY / rest[own]).is_file()
        following = [word for word in rest[own + 1 :] if word != "trials.txt"]
        parse_only("signs_dist.train", following, monkeypatch)
    elif program == "pytest":
        assert all((REPOSITORY / word).exists() for word in rest if not word.startswith("-"))
    else:
        assert program in SHELL, f"{program} is not a program that the documents use"


def check_example(words: Sequence[str]) -> None:
    """A file of examples/ and its one argument, a folder."""
    assert words[0].startswith("examples/"), "-m signs_dist.train is missing"
    assert (REPOSITORY / words[0]).is_file()
    assert len(words) == 2


def find_module(program: str, rest: Sequence[str]) -> tuple[str, list[str]]:
    """The module whose main a command calls, and the arguments for it."""
    if program == "signs-dist":
        return ("signs_dist.cli", list(rest)) if rest[0].startswith("-") else (find_command(rest[0]), list(rest[1:]))
    if rest[0] == "-m":
        return rest[1], list(rest[2:])
    assert (REPOSITORY / rest[0]).is_file()
    return rest[0].removesuffix(".py").replace("/", "."), list(rest[1:])


def parse_only(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a module's main up to where its parser has taken the arguments; what is behind -- is for training."""
    if module == "signs_dist.cli" or ">" in arguments:
        importlib.import_module(module)
        return
    own, _, behind = " \0".join(arguments).partition("-- \0" if arguments[:1] == ["--"] else " \0-- \0")
    given = own.split(" \0") if own else []
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", [module, *given])
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, _stopping(getattr(argparse.ArgumentParser, name)))
        main = importlib.import_module(module).main
        try:
            main(given) if main.__code__.co_argcount else main()
        except ParsedError as parsed:
            options = parsed.options
        except SystemExit as ended:
            if ended.code == 0:  # --help
                return
            raise
    if hasattr(options, "overrides"):
        given_config = getattr(options, "config", None)  # inspect reads settings, and no file
        config = Path(given_config) if given_config else None
        load_config(config if config is None or config.exists() else None, options.overrides)
    if behind:
        passed_on = "signs_dist.doctor" if given[:1] == ["doctor"] else getattr(options, "module", "signs_dist.train")
        parse_only(passed_on, behind.split(" \0"), monkeypatch)


def _stopping(parse: Callable[..., argparse.Namespace]) -> Callable[..., argparse.Namespace]:
    def stop(parser: argparse.ArgumentParser, arguments: Any = None, namespace: Any = None) -> argparse.Namespace:
        parser.allow_abbrev = False
        raise ParsedError(parse(parser, arguments, namespace))

    return stop


def check_make(rest: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    wanted = [word for word in rest if "=" not in word]
    assert set(wanted) <= set(targets), f"make has {targets}"
    module = {"train": "signs_dist.train", "chaos": "signs_dist.drill"}.get(wanted[0])
    for word in rest:
        if module and word.startswith("ARGS="):
            parse_only(module, word.removeprefix("ARGS=").split(), monkeypatch)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents name: photos, SIGNS.zip, a finished run; made once for all workers of pytest."""
    with shared_folder(tmp_path_factory, "documents") as folder:
        if not (folder / "runs").exists():
            write_sandbox(folder)
    return folder


def write_sandbox(folder: Path) -> None:
    photos = {f"{name}/{number}.jpg": jpeg(number) for name in ("cat", "dog") for number in range(16)}
    write_files(folder / "photos", {name: jpeg(number) for number, name in enumerate(photos)})
    write_files(folder, {"photo.jpg": jpeg(1), "folder/1.jpg": jpeg(2)})
    write_zip(folder / "SIGNS.zip", signs_files())
    write_colour_set(folder / "PHOTOS", counts={"train": 8, "val": 4, "test": 4}, size=64)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    settings = ["data.root=PHOTOS", "train.epochs=1", "train.global_batch=4", "train.epoch_steps=2"]
    command = [sys.executable, "-m", "signs_dist.train", "--run-dir", "RUN_DIR", *settings]
    trained = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert trained.returncode == 0, trained.stderr
    (folder / "runs").mkdir()
    for name in ("a", "photos"):
        (folder / "runs" / name).symlink_to(folder / "RUN_DIR")


def runnable(page: Path) -> list[Command]:
    """The commands of a page's blocks that are there to be copied and carry no mark."""
    found = commands(page.read_text(encoding="utf-8"))
    return [command for command in found if not command.needs and not command.is_shown]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page.values[0])])
def test_every_unmarked_command_runs(
    page: Path, sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "here"
    shutil.copytree(sandbox, place, symlinks=True)
    monkeypatch.chdir(place)
    for command in runnable(page):
        shown = f"{page.name}:{command.line}: {' '.join(command.words)}"
        assert run_here(command.words) == 0, f"{shown}\n{capsys.readouterr().err}"


def run_here(words: Sequence[str]) -> int:
    """The exit code of a command, run in this process as cheaply as it can be."""
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program in NOT_RUN:
        return 0
    if program == "make":
        return subprocess.run(["make", "--dry-run", *rest], cwd=REPOSITORY, capture_output=True).returncode
    if program == "torchrun":
        rest = list(rest[rest.index("-m") :])
        program = "python"
    assert program in ("python", "signs-dist"), f"{program} cannot be run here: mark the block with what it needs"
    module, arguments = find_module(program, rest)
    if module == "signs_dist.cli" or "--help" in arguments:
        from signs_dist.cli import dispatch

        try:
            return dispatch(rest)
        except SystemExit as ended:
            return int(ended.code or 0)
    if module in EXPLAINED:
        flags = [flag for flag in EXPLAINED[module] if flag not in arguments]
        arguments = [*flags, *arguments]
    else:
        assert module in RUN, f"{module} cannot be run here: mark the block with what it needs"
    return int(importlib.import_module(module).main(arguments))


def messages_of(page: Path) -> Iterator[tuple[int, str]]:
    """(line number, message) of the first column of a page's tables."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        first = line.split(" | ")[0]
        if line.startswith("| `"):
            yield from ((number, span) for span in re.findall(r"`([^`]+)`", first))


def said_by_the_product() -> list[str]:
    """Every text in the source, with … where a value is put in."""
    found = []
    for folder in ("signs_dist", "launch", "slurm"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_the_messages_of_the_troubleshooting_page_are_real() -> None:
    said = said_by_the_product()
    listed = list(messages_of(REPOSITORY / "docs" / "troubleshooting.md"))
    assert len(listed) > 30
    unknown = []
    for number, message in listed:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…")), re.DOTALL)
        if not any(pattern.search(text) for text in said):
            unknown.append(f"troubleshooting.md:{number}: {message}")
    assert not unknown
