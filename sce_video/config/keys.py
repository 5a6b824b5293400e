"""The keys of a configuration and the shipped configurations, as lists for people."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel

from sce_video.config.base import section_of
from sce_video.config.load import configs_folder
from sce_video.config.objectives import OBJECTIVES
from sce_video.config.tasks import TASKS

_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_NAMES = {int: "int", float: "float", bool: "true | false", str: "text"}


@dataclass(frozen=True)
class Key:
    """What is known of a key without a configuration."""

    name: str  # dotted, from the section on
    type: str  # in words, as ``int >= 1``
    default: str  # as YAML; "" = must be given
    description: str  # with the unit
    tasks: tuple[str, ...]  # whose configurations have it, with this default
    objective: str = ""  # whose it is, of keys that only one has


def keys() -> list[Key]:
    """All keys, section by section; one that tasks have in common is there once."""
    found: dict[Key, tuple[str, ...]] = {}
    for task, model in TASKS.items():
        for key in _below(model):
            found[key] = (*found.get(key, ()), task)
    return [replace(key, tasks=tasks) for key, tasks in found.items()]


def _below(model: type[BaseModel], prefix: str = "", objective: str = "") -> Iterator[Key]:
    """The keys of a section and of those in it."""
    for name, field in model.model_fields.items():
        about = field.description or ""
        if prefix + name == "task":
            yield Key("task", " | ".join(TASKS), "pretrain", about, ())
        elif name == "objective":
            yield Key("objective.name", " | ".join(OBJECTIVES), "sce", about, ())
            for kind, its in OBJECTIVES.items():
                yield from _below(its, "objective.", kind)
        elif section := section_of(field.annotation):
            if field.default is None or about:  # a section that may be null is a key, too
                default = "null" if field.default is None else "section"
                yield Key(prefix + name, "section | null", default, about, ())
            yield from _below(section, f"{prefix}{name}.")
        elif not (objective and name == "name"):
            default = "" if field.is_required() else _yaml(field.default)
            words = _words(field.annotation, field.metadata)
            yield Key(prefix + name, words, default, about, (), objective)


def keys_markdown() -> str:
    """:func:`keys` as Markdown: a heading and a table a section, and one an objective."""
    tables: dict[str, list[Key]] = {}
    for key in keys():
        section, _, _ = key.name.partition(".")
        title = f"#### `objective.name: {key.objective}`" if key.objective else f"### `{section}`"
        tables.setdefault(title, []).append(key)
    lines = []
    for title, rows in tables.items():
        shared = tuple(task for task in TASKS if any(task in row.tasks for row in rows))
        lines += [title if rows[0].objective else title + _of(shared, tuple(TASKS)), ""]
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        for row in rows:
            cells = [_code(row.name) + _of(row.tasks, shared), _code(row.type), _code(row.default)]
            lines.append(f"| {' | '.join(cells)} | {row.description} |")
        lines.append("")
    return "\n".join(lines)


def _of(tasks: tuple[str, ...], usual: tuple[str, ...]) -> str:
    return "" if tasks == usual else f" ({', '.join(tasks)})"


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else "--"


def configs() -> list[tuple[str, str]]:
    """The shipped configurations: path below ``configs/``, and what its first line says."""
    folder = configs_folder()
    return [
        (path.relative_to(folder).as_posix(), path.read_text().partition("\n")[0].lstrip("# "))
        for path in sorted(folder.rglob("*.yaml"))
    ]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _words(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """``Literal["a", "b"]`` -> ``a | b``, ``int`` of 1 and more -> ``int >= 1``."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _words(parts[0], parts[1:])
    if origin in (Union, UnionType):
        return " | ".join(_words(part, limits) for part in parts)
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin is tuple:
        return f"[{', '.join('...' if part is Ellipsis else _words(part) for part in parts)}]"
    bounds: dict[str, Any] = {}
    for limit in limits:
        for one in getattr(limit, "metadata", [limit]):
            bounds |= {name: getattr(one, name) for name in _SIGNS if hasattr(one, name)}
    if annotation is NoneType:
        return "null"
    if bounds.keys() == {"ge", "le"}:
        return f"{_NAMES[annotation]} {bounds['ge']} to {bounds['le']}"
    signs = [f"{_SIGNS[name]} {bound}" for name, bound in bounds.items()]
    return " ".join([_NAMES[annotation], ", ".join(signs)]).strip()
