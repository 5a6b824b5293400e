"""The keys of a configuration and the shipped configurations, as lists for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from sce_video.config.base import section_of
from sce_video.config.load import configs_folder
from sce_video.config.objectives import OBJECTIVES
from sce_video.config.tasks import TASKS

# JSON schema's words -> ours.
_TYPES = {"integer": "int", "number": "float", "boolean": "true | false", "string": "text"}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Key:
    """What is known of a key without a configuration."""

    name: str  # dotted, from the section on
    type: str  # in words, as ``int >= 1``
    default: str  # as YAML; "" = must be given
    description: str  # with the unit
    tasks: tuple[str, ...] = ()  # whose configurations have it, with this type and default
    objective: str = ""  # whose it is, of keys that not all have


def keys() -> list[Key]:
    """All keys, section by section; one that tasks have in common is there once."""
    found: dict[Key, tuple[str, ...]] = {}
    for task, model in TASKS.items():
        for key in _below(model):
            found[key] = (*found.get(key, ()), task)
    return [replace(key, tasks=tasks) for key, tasks in found.items()]


def _below(model: type[BaseModel], prefix: str = "", objective: str = "") -> Iterator[Key]:
    """The keys of a section and of those in it; a section that may be null is a key, too."""
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        about, schema = field.description or "", schemas[name]
        default = schema.get("default", "")
        if prefix + name == "task":
            yield Key("task", " | ".join(TASKS), "pretrain", about)
        elif name == "objective":
            yield Key("objective.name", " | ".join(OBJECTIVES), "sce", about)
            for kind, its in OBJECTIVES.items():
                yield from _below(its, "objective.", kind)
        elif section := section_of(field.annotation):
            if "anyOf" in schema:
                yield Key(prefix + name, "section | null", "section" if default else "null", about)
            yield from _below(section, f"{prefix}{name}.")
        elif not (objective and name == "name"):
            default = default if isinstance(default, str) else json.dumps(default)
            yield Key(prefix + name, _words(schema), default, about, objective=objective)


def _words(schema: dict[str, Any]) -> str:
    """``{"type": "integer", "minimum": 1}`` -> ``int >= 1``."""
    if "anyOf" in schema:
        return " | ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(x if isinstance(x, str) else json.dumps(x) for x in schema["enum"])
    if "items" in schema:
        return f"[{_words(schema['items'])}, ...]"
    if "prefixItems" in schema:
        return f"[{', '.join(map(_words, schema['prefixItems']))}]"
    name = _TYPES.get(schema["type"], schema["type"])
    if "minimum" in schema and "maximum" in schema:
        return f"{name} {schema['minimum']:g} to {schema['maximum']:g}"
    limits = [f"{sign} {schema[limit]:g}" for limit, sign in _LIMITS.items() if limit in schema]
    return " ".join([name, ", ".join(limits)]).strip()


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
        (
            path.relative_to(folder).as_posix(),
            path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "),
        )
        for path in sorted(folder.rglob("*.yaml"))
    ]
