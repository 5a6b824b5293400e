"""Reading a configuration: a YAML file, every key checked, ``key=value`` overrides on top."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from sce_video.arguments import did_you_mean, nearest
from sce_video.config.base import section_of
from sce_video.config.objectives import OBJECTIVES
from sce_video.config.plain import problem_of, shortened, shown
from sce_video.config.tasks import TASKS, AnyConfig, Config, PretrainConfig
from sce_video.documents import DocumentError, parse_yaml, read_yaml
from sce_video.errors import UsageError

_LEVELS = 8  # of sections in a key


class Brought(NamedTuple):
    """Values for keys that a configuration leaves open."""

    source: str  # for messages
    values: Mapping[str, Any]  # by dotted key


def configs_folder() -> Path:
    """The folder of shipped configs: inside an installed wheel, else beside the checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """A config file: ``name`` as given, else below :func:`configs_folder`.

    Raises:
        UsageError: neither exists; lists near names.
    """
    if wrong := problem_of(name):
        raise UsageError(f"--config: {wrong}")
    shipped = configs_folder()
    relative = name.removeprefix("configs/")
    for path in (Path(name), shipped / relative):
        with suppress(OSError):  # such as a name that is too long
            if path.is_file():
                return path
            if os.path.lexists(path) and not path.is_dir():
                raise UsageError(f"{path}: is no regular file; give a file of YAML")
    known = sorted(p.relative_to(shipped).as_posix() for p in shipped.rglob("*.yaml"))
    stem = nearest(Path(name).stem, (Path(path).stem for path in known))
    if stem:
        alike = [path for path in known if Path(path).stem == stem]
        [near] = difflib.get_close_matches(relative, alike, n=1, cutoff=0.0)
        raise UsageError(f"{name}: no such config; did you mean 'configs/{near}'?")
    has = ", ".join(dict.fromkeys("".join(path.partition("/")[:2]) for path in known))
    raise UsageError(f"{name}: no such config; configs/ has {has} (sce-video configs lists them)")


def load_config(
    name: str,
    overrides: Sequence[str] = (),
    bring: Callable[[Mapping[str, Any]], Brought] | None = None,
) -> AnyConfig:
    """Read a config file and apply ``key=value`` overrides.

    Args:
        name: as :func:`find_config` takes it.
        overrides: of the command line.
        bring: is given what file and overrides say, unchecked; fills what they leave out or null.

    Raises:
        UsageError: a missing file, bad YAML, an unknown key or a wrong value, in one line.
    """
    path = find_config(name)
    tree = read_config(path, follow=True)
    for override in overrides:
        _override(tree, override)
    task = str(tree.setdefault("task", "pretrain"))
    if task not in TASKS:
        raise UsageError(f"{path}: task {shown(task)} is unknown{did_you_mean(task, TASKS)}")
    source, values = bring(tree) if bring else Brought("", {})
    filled = [key for key, value in values.items() if _fill(tree, key, value)]
    try:
        return TASKS[task].model_validate(tree)
    except ValidationError as error:
        place = ".".join(_where(error.errors()[0]["loc"])[0])
        typed = [text for text in overrides if place and text.startswith(f"{place}=")]
        theirs = ", ".join(key for key in filled if place and f"{key}.".startswith(f"{place}."))
        problem = _explain(error, task) + (f" ({source} brings {theirs})" if theirs else "")
        raise UsageError(shortened(f"{typed[-1] if typed else path}: {problem}")) from error


def read_config(path: Path, *, follow: bool = False) -> dict[str, Any]:
    """The sections in a config file, not checked but for their values being plain ones.

    Args:
        path: of the file.
        follow: it may be a link, as the user named it.

    Raises:
        UsageError: no YAML, no sections, or a value that is none.
    """
    try:
        tree = read_yaml(path, follow=follow)
    except DocumentError as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: must be a mapping of sections")
    if wrong := problem_of(tree):
        raise UsageError(f"{path}: {wrong}")
    return tree


def load_pretraining(name: str, overrides: Sequence[str] = ()) -> PretrainConfig:
    """:func:`load_config` where only pretraining will do.

    Raises:
        UsageError: as there, or another task.
    """
    config = load_config(name, overrides)
    if not isinstance(config, PretrainConfig):
        raise UsageError(f"{name}: task {config.task}, where only pretrain will do")
    return config


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"{shown(override)}: expected key=value, for example optim.lr=0.1")
    *sections, leaf = key.split(".")
    if len(sections) >= _LEVELS or problem_of({key: None}):
        raise UsageError(f"{shown(key)} is no key; give one such as optim.lr=0.1")
    try:
        value = parse_yaml(text)
    except DocumentError as error:
        raise UsageError(f"{key}: {error}") from error
    if wrong := problem_of(value, key):
        raise UsageError(wrong)
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise UsageError(f"{key}: '{section}' is a value, not a section")
        tree = child
    tree[leaf] = value


def _fill(tree: dict[str, Any], key: str, value: object) -> bool:
    """Give a dotted key its value where it has none, and its section is not null."""
    *sections, leaf = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            return False
    if tree.get(leaf) is not None:
        return False
    tree[leaf] = value
    return True


def _where(loc: tuple[int | str, ...]) -> tuple[list[str], str | None]:
    """The keys down to a problem, and the objective's name, which pydantic puts among them."""
    where = [str(part) for part in loc]
    if len(where) > 1 and where[0] == "objective" and where[1] in OBJECTIVES:
        return [where[0], *where[2:]], where[1]
    return where, None


def _explain(error: ValidationError, task: str) -> str:
    """The first problem as one line, with the nearest known key for an unknown one."""
    problem = error.errors()[0]
    where, objective = _where(problem["loc"])
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        others = [t for t in TASKS if where[-1] in _keys(t, where[:-1], None)]
        if others and not objective:
            return f"'{name}' is of task {' and '.join(others)}; a {task} run has none"
        prefix = name.removesuffix(where[-1])
        hint = did_you_mean(where[-1], _keys(task, where[:-1], objective), prefix)
        if objective:
            hint += f" (another objective replaces the section: 'objective={{name: {objective}}}')"
        return f"unknown key '{name}'{hint}"
    if problem["type"] == "missing":
        return f"'{name}' is missing; give it in the file or as {name}=VALUE"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":  # ours: says all by itself
        return f"{name}: {message}" if name else message
    got = problem["input"]
    known = re.findall("'(.*?)'", str(problem.get("ctx", {}).get("expected")))  # of a Literal
    near = did_you_mean(got, known, listed=False) if isinstance(got, str) else ""
    return f"{name}: {message}, got {shown(got)}{near}"


def _keys(task: str, sections: Sequence[str], objective: str | None) -> list[str]:
    """Those of a section of a task; none where the task has no such section."""
    model: type[BaseModel] | None = OBJECTIVES[objective] if objective else TASKS[task]
    for section in () if objective else sections:
        field = model.model_fields.get(section) if model else None
        model = section_of(field.annotation) if field else None
    return list(model.model_fields) if model else []


def dump_config(config: Config) -> str:
    """The whole resolved configuration as YAML, defaults included."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def flat(value: object, name: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    if not isinstance(value, dict):
        return {name: value} if name else {}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{name}.{key}" if name else str(key))
    return found
