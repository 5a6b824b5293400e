"""The pages: what they link to and name is there, and their commands run.

Commands of ``sh`` blocks run on small made data in the places that the pages name. ``SMALLER`` says
what is added to keep them short, ``LEFT_OUT`` which are not run, and why.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import braceexpand
import pytest
import torch
from pydantic import BaseModel

from sce_video.cli import VERBS, main
from sce_video.config.load import find_config
from sce_video.config.objectives import OBJECTIVES
from sce_video.config.tasks import TASKS
from tests.conftest import REPOSITORY
from tests.pages import Page, pages, program
from tests.runs import BIN, free_port, run
from tests.workplace import make_workplace

PAGES = [Page(name) for name in pages()]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

LEFT_OUT = {
    r"^python3 -m venv": "installs; .ci/run runs both",
    r"^pytest": "the tests themselves",
    r"tests\.benchmarks": "minutes; tests/benchmarks tests them",
    r"tests\.faults": "tests/faults/test_faults.py runs it",
    r"--hostfile|^srun|^printf": "several machines, ssh, SLURM",
    r"--num_gpus 8": "eight GPUs",
    r"--shards s3://": "network",
    r" torchvision": "trunks of full width; test_export.py and evals/test_embed.py have them",
}
"""Pattern of commands that are not run here -> why."""

COMPILED = "torchvision"
"""Word of Python blocks that are compiled only: theirs take full widths, as test_export.py does."""

LAUNCHED = r"configs/demo\.yaml"
"""Commands that are run as they are, launcher included; all other training is planned only."""

FEW = ["--clips", "1", "--crops", "1", "--workers", "0", "--size", "18"]
SHORT = [*FEW, "--frames", "2", "--seconds", "0.4"]
SMALLER = {
    "shard": ["--workers", "1"],
    "train": ["run.max_steps=1", "train.batch_size=6", "data.workers=1", "track.wandb=off"],
    "bench": ["train.batch_size=6"],
    "test": FEW,
    **dict.fromkeys(("embed", "retrieve", "knn", "search build"), SHORT),
}
"""Verb -> arguments that are added."""

LAUNCHERS_FLAGS = {"--no_ssh", "--num_gpus", "--master_port"}
FILES = (".py", ".log", ".yaml", ".json", ".safetensors")


def shown(page: Page) -> list[list[str]]:
    """Commands in blocks, and those in the text."""
    own = r"(sce-video|deepspeed|torchrun|pytest|python3? -m) \S"
    return [*page.commands(), *(shlex.split(c) for c in page.inline() if re.match(own, c))]


# What is named is there.


@each_page
def test_links_and_anchors(page: Page) -> None:
    for target in page.links():
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), target
        if anchor:
            assert anchor in Page(path.relative_to(REPOSITORY).as_posix()).anchors(), target


def test_the_first_page_is_short() -> None:
    assert len(Page("README.md").text.splitlines()) <= 200


@each_page
def test_cells_are_short(page: Page) -> None:
    assert [cell for cell in page.cells() if len(cell.split()) > 25] == []


def config_keys() -> set[str]:
    """Every section and key of every task and objective."""

    def walk(kind: object, name: str) -> Iterator[str]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for key, field in kind.model_fields.items():
                yield (inner := f"{name}.{key}" if name else key)
                yield from walk(field.annotation, inner)
        for part in typing.get_args(kind):
            yield from walk(part, name)

    found = {key for task in TASKS.values() for key in walk(task, "")}
    return found | {key for kind in OBJECTIVES.values() for key in walk(kind, "objective")}


@each_page
def test_keys_exist(page: Page) -> None:
    known = config_keys()
    sections = {key.partition(".")[0] for key in known} - {"task"}
    words = [w for code in page.inline() for w in code.split() if not w.endswith(FILES)]
    words += [word for command in page.commands() for word in command if "=" in word]
    for word in words:
        if found := re.match(r"([a-z_]+)(\.[a-z_]+)+(?==|$)", word.strip("'")):
            if found[1] not in sections or found[0].startswith("deepspeed."):
                continue
            assert found[0] in known, word


@cache
def help_of(verb: str) -> str:
    """What ``--help`` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        main([*verb.split(), "--help"])
    assert ended.value.code == 0
    return printed.getvalue()


@cache
def help_of_module(name: str) -> str:
    """What ``python -m NAME --help`` prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(name, run_name="__main__")
    assert ended.value.code == 0
    return printed.getvalue()


def flags(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


@each_page
def test_verbs_and_flags_exist(page: Page) -> None:
    for words in shown(page):
        if called := program(words):
            verb, arguments = called
            if verb in ("--help", "--version"):
                continue
            assert verb.partition(" ")[0] in VERBS, words
            for flag in flags(arguments):
                assert re.search(rf"{flag}\b", help_of(verb)), words
        elif words[:2] == ["python", "-m"]:
            text = help_of_module(words[2])
            assert [flag for flag in flags(words) if not re.search(rf"{flag}\b", text)] == []


@each_page
def test_flags_in_the_text_exist(page: Page) -> None:
    verbs = {*VERBS, "search build", "search query", "shard info", "shard verify"} - {"search"}
    modules = [words[2] for words in page.commands() if words[2:] and "benchmarks" in words[2]]
    texts = [*map(help_of, sorted(verbs)), *map(help_of_module, modules)]
    known = LAUNCHERS_FLAGS | {flag for text in texts for flag in re.findall(r"--[a-z_-]+", text)}
    for code in page.inline():
        if re.match(r"--[a-z]", code):
            assert set(flags(code.split())) <= known, code


@each_page
def test_files_exist(page: Page) -> None:
    words = [w for code in page.inline() for w in code.split()]
    words += [w for command in page.commands() for w in command]
    for word in words:
        if re.fullmatch(r"(sce_video|tests|\.ci|\.github)/[\w./-]*", word):
            assert (REPOSITORY / word).exists(), word
        elif re.fullmatch(r"(configs/)?(pretrain|linear|finetune)/[\w{},.]+", word):
            stem = word.removeprefix("configs/").removesuffix(".yaml")
            if not re.search(r"[A-Z]", stem):
                for name in braceexpand.braceexpand(stem):
                    assert find_config(f"{name}.yaml").is_file(), word
        elif re.fullmatch(r"configs/[a-z]\w*\.yaml", word):
            assert (REPOSITORY / word).is_file(), word


@each_page
def test_modules_exist(page: Page) -> None:
    for code in page.inline():
        for name in re.findall(r"(?<![\w/.])(?:sce_video|tests)(?:\.\w+)+", code):
            parts = name.split(".")
            depth = len(parts)
            while not (REPOSITORY.joinpath(*parts[:depth]).is_dir()) and not (
                REPOSITORY.joinpath(*parts[:depth]).with_suffix(".py").is_file()
            ):
                depth -= 1
            thing: object = importlib.import_module(".".join(parts[:depth]))
            for part in parts[depth:]:
                thing = getattr(thing, part)


def test_all_rooms_are_on_the_page_of_the_house() -> None:
    text = Page("sce_video/README.md").text
    tree = text[text.index("\n    text ") : text.index("\n## Words")]
    names = {p.name.removesuffix(".py") for p in (REPOSITORY / "sce_video").glob("[a-z]*")}
    names -= {"LICENSE", "README.md", "py.typed"}
    assert {name for name in names if not re.search(rf"\b{name}\b", tree)} == set()


# What is shown runs.


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages' commands expect to find, small."""
    return make_workplace(tmp_path_factory.mktemp("pages"))


def kind_of(words: list[str]) -> str:
    """How a command is tested: ``left out``, ``launched``, ``planned`` or ``run``.

    Raises:
        AssertionError: nobody has said how.
    """
    line = shlex.join(words).replace("'", "")
    if any(re.search(pattern, line) for pattern in LEFT_OUT):
        return "left out"
    called = program(words)
    assert called, f"{line}: neither a command of ours nor in LEFT_OUT"
    if called[0] in ("train", "bench"):
        return "launched" if re.search(LAUNCHED, line) else "planned"
    return "run"


def of_kind(page: Page, kind: str) -> list[list[str]]:
    return [words for words in page.commands() if kind_of(words) == kind]


def made(word: str) -> str:
    """The made data's place for a page's place for raw data."""
    return re.sub(r"^/data/", "data/", word)


def test_every_command_has_its_test() -> None:
    lines = [shlex.join(words).replace("'", "") for page in PAGES for words in page.commands()]
    unused = [p for p in LEFT_OUT if not any(re.search(p, line) for line in lines)]
    assert unused == []
    assert {kind_of(words) for page in PAGES for words in page.commands()} == {
        "left out",
        "launched",
        "planned",
        "run",
    }


@each_page
def test_training_commands_have_a_plan(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configs and what is overridden are valid; the papers' data and encoders are not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    for words in [*of_kind(page, "planned"), *of_kind(page, "launched")]:
        verb, arguments = program(words) or ("", [])
        if verb == "train":
            plan = ["run.init_from=null", "--dry-run", "--samples", "100000"]
            assert main(["train", *arguments, *plan]) == 0, words
            assert "H200-hours" in capsys.readouterr().out


# The commands of evaluation take most of the time.
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] * ("evals" in page.name))
        for page in PAGES
    ],
)
def test_commands_run(
    page: Page,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    for words in of_kind(page, "run"):
        verb, arguments = program(words) or ("", [])
        code = main([*verb.split(), *map(made, arguments), *SMALLER.get(verb, [])])
        captured = capsys.readouterr()
        assert code == 0, (words, captured.err)


@pytest.mark.slow
@each_page
def test_launched_commands_run(page: Page, workplace: Path, tmp_path: Path) -> None:
    for name in ("data", "shards", "my_videos", "sce_video", "configs"):
        (tmp_path / name).symlink_to(workplace / name)
    for words in of_kind(page, "launched"):
        verb, _ = program(words) or ("", [])
        first, *rest = words
        port = ["--master_port", free_port()] if first == "deepspeed" else []
        command = [str(BIN / first), *port, *rest, *SMALLER[verb]]
        done = run(*command, cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
        assert done.returncode == 0, (words, done.stderr)


@each_page
def test_python_blocks_run(
    page: Page, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    unit = torch.nn.functional.normalize(torch.randn(3, 4, 8), dim=2)
    names: dict[str, object] = {"q": unit[0], "k": unit[1], "queue": unit[2].T.contiguous()}
    for code in page.blocks("python"):
        block = compile(code, page.name, "exec")
        if COMPILED not in code:
            exec(block, names)  # noqa: S102
