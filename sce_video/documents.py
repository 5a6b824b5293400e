"""JSON and YAML that somebody else may have written: parsed within bounds.

Whatever is wrong with a text, one exception says it in one line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from sce_video.errors import first_line
from sce_video.files import LARGEST, read_plain
from sce_video.text import printable

T = TypeVar("T")

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_YAML_BYTES = 1 << 18  # of a text
_DEPTH = 32  # of sections in sections
_NODES = 20_000  # values, with all that aliases stand for
_SHOWN = 300  # characters of a parser's own words


class DocumentError(ValueError):
    """A text that is not what it should be; the message is one line and names no file."""

    def __init__(self, problem: str) -> None:
        super().__init__(printable(problem)[:_SHOWN])


def parse_json(data: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        data: UTF-8, or decoded.
        finite: refuse NaN, infinite numbers and whole ones of more than 64 bits, which others
            write; else the last come as the nearest float.

    Raises:
        DocumentError: it is no JSON, nested too deeply, or holds such a number or text that is not
            Unicode.
    """
    try:
        text = (data.encode() if isinstance(data, str) else data).decode()
        whole, real, other = (_whole, _finite, _not_finite) if finite else (_number, None, None)
        value = json.loads(text, parse_int=whole, parse_float=real, parse_constant=other)
        if _SURROGATE.search(text):  # half a pair makes text that cannot be written again
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise DocumentError("no UTF-8 text") from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    except ValueError as error:
        raise DocumentError(f"no JSON: {first_line(error)}") from error
    return value


def read_json(
    path: Path, kind: type[T], *, limit: int = LARGEST, finite: bool = True, follow: bool = False
) -> T:
    """The value of a JSON file; see :func:`parse_json`.

    Args:
        path: of the file.
        kind: type that the value has to have: ``dict`` or ``list``.
        limit: bytes that the file may have.
        finite: as there.
        follow: the file may be a link.

    Raises:
        OSError: it cannot be read.
        DocumentError: as there, or another type.
    """
    value = parse_json(read_plain(path, limit=limit, follow=follow), finite=finite)
    if not isinstance(value, kind):
        raise DocumentError(f"holds no {'object' if kind is dict else kind.__name__}")
    return value


def _number(text: str) -> int | float:
    return int(text) if len(text) <= 20 and _has_64_bits(int(text)) else float(text)


def _has_64_bits(number: int) -> bool:
    return -(1 << 63) <= number < 1 << 63


def _whole(text: str) -> int:
    if isinstance(number := _number(text), float):
        raise ValueError(f"the number {text[:24]}... has more than 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:24]} is not finite")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is an error, and aliases are bounded."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise DocumentError(f"more than {_DEPTH} levels deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded(node, {}) > _NODES:
            raise DocumentError(f"more than {_NODES:,} values, with what its aliases stand for")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key_node in own:
            key = self.construct_object(key_node, deep=True)
            problem = "unhashable key" if not isinstance(key, Hashable) else ""
            if problem or key in seen:
                problem, mark = problem or f"key '{key}' is given twice", key_node.start_mark
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number: int = super().construct_yaml_int(node)
        if not _has_64_bits(number):
            raise DocumentError("the number has more than 64 bits")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _expanded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Values below a node, as many times as aliases name them; infinite where one holds itself."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # until it is known
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = (part if isinstance(part, tuple) else (part,) for part in inner)
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for pair in pairs for part in pair)
    return sizes[id(node)]


def parse_yaml(data: bytes | str) -> Any:
    """The value of a YAML text, by PyYAML's safe loader; a key that is given twice is refused.

    Raises:
        DocumentError: it is no YAML, nested too deeply, too large with what its aliases stand for,
            or holds a value that is none, such as the day 2024-99-99.
    """
    if len(data) > _YAML_BYTES:
        raise DocumentError(f"larger than {_YAML_BYTES:,} bytes")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except DocumentError:
        raise
    except UnicodeError as error:
        raise DocumentError("no UTF-8 text") from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        raise DocumentError(f"not valid YAML: {' '.join(str(error).split())}") from error
    except (TypeError, LookupError, AttributeError) as error:  # of PyYAML's own constructors
        raise DocumentError(
            f"not valid YAML: a value or key is none ({first_line(error)})"
        ) from error


def read_yaml(path: Path, *, follow: bool = False) -> Any:
    """The value of a YAML file; see :func:`parse_yaml`.

    Raises:
        OSError: it cannot be read.
        DocumentError: as there.
    """
    return parse_yaml(read_plain(path, follow=follow))
