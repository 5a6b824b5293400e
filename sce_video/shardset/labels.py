"""What a sample says of its class: in ``KEY.cls``, in ``KEY.json``, or in a list of files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sce_video.documents import DocumentError, parse_json
from sce_video.errors import UsageError
from sce_video.text import one_line

LABEL_MEMBERS = ("cls", "json")
"""Members of a tar in which a sample's class may be; the first that is there counts."""
_DIGITS = 18  # of a class number that is read as one: as many as 64 bits hold
_NAMED = 5  # classes in a message
_SHOWN = 40  # characters of a wrong label in a message


class LabelError(ValueError):
    """A label that is neither a number nor a name; the message says which and what it holds."""


def class_name(label: str) -> str | None:
    """The class that a label in a text names, in one line; None = no class: it is empty or -1."""
    name = one_line(label.strip())
    return None if name in ("", "-1") else name


def label_member(fields: Collection[str]) -> str | None:
    """Which of a sample's members, by their extensions, is asked for its class; None = none is."""
    return next((name for name in LABEL_MEMBERS if name in fields), None)


def stated_classes(sample: Mapping[str, bytes]) -> Iterator[str]:
    """Names that a sample gives its class, the one that counts first; none where it has no class.

    What ``cls`` says counts, else the ``class``, else the ``label`` in ``json``; what comes after
    the one that is taken is not looked at. Numbers are names as they are written.

    Args:
        sample: extension -> bytes of its members, that of :func:`label_member` among them.

    Raises (while iterating):
        LabelError: a member is not readable, or holds something else than a number or a name.
    """
    try:
        if label_member(sample) == "cls":
            fields = {"class": sample["cls"].decode()}
        else:
            fields = parse_json(sample.get("json", b"{}"), finite=False)
    except UnicodeError as error:
        raise LabelError("no UTF-8 text") from error
    except DocumentError as error:
        raise LabelError(str(error)) from error
    fields = fields if isinstance(fields, dict) else {}
    for key in ("class", "label"):
        if (name := _json_class(key, fields.get(key))) is not None:
            yield name


def _json_class(key: str, value: Any) -> str | None:
    if isinstance(value, str | None):
        return class_name(value or "")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:  # exact
        value = int(value)
    if type(value) is not int:
        what = json.dumps(value)[:_SHOWN]
        raise LabelError(f"'{key}' in its json is {what}, neither a whole number nor a name")
    return class_name(str(value))


def class_number(names: Iterable[str]) -> int:
    """The first of :func:`stated_classes` that is a whole number from 0; -1 = none is.

    So a sample gets a number of its own, without a list of all classes: a name alone gives none.
    """
    return next((int(name) for name in names if _is_number(name)), -1)


def number_classes(names: Iterable[str]) -> dict[str, int]:
    """Class name -> label: names that are all whole numbers in their order, others sorted."""
    classes = sorted(set(names))
    if all(_is_number(name.removeprefix("-")) for name in classes):
        classes.sort(key=int)
    return {name: label for label, name in enumerate(classes)}


def match_classes(
    name: str, own: Sequence[str], known: Sequence[str], whose: str, used: Iterable[int]
) -> list[int]:
    """Labels of a set in another list of classes, by the names of the classes.

    Args:
        name: what messages call the set.
        own: its classes, in the order of its labels.
        known: the other list.
        whose: what messages call that.
        used: labels of the set that are asked for, -1 = none.

    Returns:
        For each label of the set that in the other list; -1 = it has no such class.

    Raises:
        UsageError: a label that is asked for has none.
    """
    places = {label: number for number, label in enumerate(known)}
    numbers = [places.get(label, -1) for label in own]
    lost = [own[label] for label in sorted(set(used)) if label >= 0 > numbers[label]]
    if lost:
        more = ", ..." if len(lost) > _NAMED else ""
        raise UsageError(
            f"{name}: {len(lost)} of its classes are not among the {len(known)} of {whose}: "
            f"{', '.join(lost[:_NAMED])}{more}"
        )
    return numbers


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= _DIGITS
