"""The project's pages, taken apart: links, tables, code in the text, code blocks, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[str]:
    """Paths of all pages, relative to the checkout."""
    found = [REPOSITORY / "README.md", REPOSITORY / "shards/README.md"]
    for folder in ("configs", "sce_video", "tests"):
        found += sorted((REPOSITORY / folder).rglob("*.md"))
    return [path.relative_to(REPOSITORY).as_posix() for path in found if path.is_file()]


@dataclass(frozen=True)
class Page:
    """A page by its path, relative to the checkout."""

    name: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return REPOSITORY / self.name

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """What is not in code blocks."""
        return _BLOCK.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """Code blocks of a language, in their order."""
        return [code for kind, code in _BLOCK.findall(self.text) if kind == language]

    def links(self) -> list[str]:
        """Targets of links and pictures, those on the web left out."""
        prose = re.sub(r"`[^`]*`", "", self.prose)
        found = re.findall(r"\]\(([^)\s]+)\)", prose)
        return [target for target in found if "://" not in target]

    def anchors(self) -> set[str]:
        """Anchors of its headings, as GitHub makes them."""
        heads = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

    def cells(self) -> Iterator[str]:
        """Cells of its tables."""
        for line in self.prose.splitlines():
            if line.startswith("|"):
                hidden = re.sub(r"`[^`]*`", lambda code: code[0].replace("|", "/"), line)
                yield from (cell.strip() for cell in hidden.strip("|").split("|"))

    def inline(self) -> list[str]:
        """Code in its text, one space for any."""
        return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose)]

    def commands(self) -> list[list[str]]:
        """Words of every command in its sh blocks; comments are left out, ``...`` stays."""
        lines = "".join(self.blocks("sh")).replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def program(words: list[str]) -> tuple[str, list[str]] | None:
    """A command's verb (``search`` with its own) and arguments; None = no command of ours."""
    line = " ".join(words)
    if found := re.search(r"(?:^|/)sce-video (.+)|-m(?:odule)? sce_video (.+)", line):
        start = line[: found.start(1) if found[1] else found.start(2)].split()
        verb, *rest = words[len(start) :]
    elif words[:3] == ["python", "-m", "sce_video.shard"]:
        verb, rest = "shard", words[3:]
    elif words[:3] == ["python", "-m", "sce_video.train"]:
        verb, rest = "train", words[3:]
    elif "sce_video/train.py" in words:
        verb, rest = "train", words[words.index("sce_video/train.py") + 1 :]
    else:
        return None
    if rest and (verb == "search" or (verb == "shard" and rest[0] in ("info", "verify"))):
        return f"{verb} {rest[0]}", rest[1:]
    return verb, rest
