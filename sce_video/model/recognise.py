"""Which trunk's tensors a file holds, and behind which prefix of their names.

Our trunks have the layer names of the library they are from, so that a file is recognised by the
names and shapes of its tensors, whatever they are wrapped in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sce_video.config.trunks import TRUNKS
from sce_video.errors import UsageError
from sce_video.model.tensor_file import plain_name
from sce_video.model.trunks import build_trunk

Tensors = dict[str, Tensor]
"""By name, as :func:`sce_video.model.tensor_file.read_tensors` gives them."""

_CLASSIFIER = re.compile(r"blocks\.5\.proj\.")  # the one that is named as the trunk's layers are
_COUNTER = "num_batches_tracked"  # of BN: unused in evaluation, and not in old files
_NAMED, _GROUPS = 3, 6  # names that a message lists, groups of names

# Words of prefixes: an average comes after the encoder that it follows, which papers evaluate; but
# of student and teacher DINO evaluates the teacher.
_FOLLOWS = {"k", "key", "m", "momentum", "target", "tgt", "ema", "average"}
_FIRST = {"teacher"}


class Place(NamedTuple):
    """Where a file holds all tensors of a trunk."""

    trunk: str
    prefix: str  # of their names, without its last dot; "" = none

    def take(self, tensors: Tensors) -> Tensors:
        """The tensors behind the prefix, by their names behind it."""
        start = f"{self.prefix}." if self.prefix else ""
        return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}


def find_places(tensors: Tensors, file: str, name: str = "") -> list[Place]:
    """Every place where a trunk is, whole and without further layers; at least one.

    Args:
        tensors: of a file.
        file: its name, for messages.
        name: of the trunk that it must be; "" = any whose weights by others are known.

    Raises:
        UsageError: there is none; the nearest trunk is named, and what it lacks.
    """
    trunks = [name] if name else [name for name, known in TRUNKS.items() if known.input]
    named, fits = _count(tensors, trunks)
    whole = [place for place, count in fits.items() if count == len(_shapes(place.trunk))]
    if places := [place for place in whole if not _more_layers(tensors, place)]:
        return places
    found = f"its tensors are {some(_groups(tensors), _GROUPS)}"
    if whole:
        problem = f"has more layers: {some(_more_layers(tensors, whole[0]))}"
        raise UsageError(f"{file}: nearest to {_named(whole[0])}, but {problem}; {found}")
    if not tensors:
        raise UsageError(f"{file}: holds no tensors")
    near = {Place(trunk, ""): _alike(tensors, trunk) for trunk in trunks}
    near |= {
        place: near[Place(place.trunk, "")] + (count + fits[place]) / len(_shapes(place.trunk))
        for place, count in named.items()
    }
    nearest = max(near, key=lambda place: near[place])
    problem = f"lacks {some(_lacking(tensors, nearest))}"
    raise UsageError(f"{file}: nearest to {_named(nearest)}, but {problem}; {found}")


def choose(places: Sequence[Place], file: str, prefix: str | None) -> Place:
    """One of several places: that behind ``prefix``, else the one that papers evaluate.

    The encoder that is trained (query, online) comes before its average (key, momentum, target,
    EMA), but the teacher before the student; else the first one in the file.

    Args:
        places: one at least.
        file: its name, for messages.
        prefix: all of it, or words of it that follow each other; None = any.

    Raises:
        UsageError: no place is behind ``prefix``; those that there are are named.
    """
    if prefix is not None:
        wanted = plain_name(f"{prefix.strip('.')}.")[:-1]
        fit = [place for place in places if place.prefix == wanted] or [
            place for place in places if wanted and f".{wanted}." in f".{place.prefix}."
        ]
        if not fit:
            there = some([f"#{place.prefix} ({place.trunk})" for place in places], _GROUPS)
            raise UsageError(f"{file}: no trunk behind '{prefix}'; there is {there}")
        places = fit
    return min(places, key=_rank)


def _rank(place: Place) -> int:
    words = set(re.split(r"[._]", place.prefix.lower()))
    return 0 if words & _FIRST else 2 if words & _FOLLOWS else 1


def fill_trunk(tensors: Tensors, name: str) -> nn.Module:
    """The trunk of that name, in eval mode, with the tensors of its place."""
    with torch.device("meta"):  # without memory for its own tensors
        trunk = build_trunk(name)
    used = {}
    for key, own in trunk.state_dict().items():
        tensor = tensors.get(key)
        if tensor is None or (_COUNTER in key and not _counts(tensor)):  # all else fits
            tensor = torch.zeros((), dtype=own.dtype)
        used[key] = tensor.detach().reshape(own.shape).to(own.dtype)
    trunk.load_state_dict(used, assign=True)
    return trunk.eval()


def some(names: Sequence[str], most: int = _NAMED) -> str:
    """The first of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _named(place: Place) -> str:
    return f"{place.trunk} behind '{place.prefix}'" if place.prefix else place.trunk


def _count(tensors: Tensors, trunks: Sequence[str]) -> tuple[Counter[Place], Counter[Place]]:
    """How many names of each trunk are behind each prefix, and how many of its tensors."""
    named, fits = Counter[Place](), Counter[Place]()
    for name, tensor in tensors.items():
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        for start in starts:
            for trunk in trunks:
                if (shape := _shapes(trunk).get(name[start:])) is not None:
                    place = Place(trunk, name[: max(start - 1, 0)])
                    named[place] += 1
                    fits[place] += _fits(tensor, shape)
    return named, fits


def _fits(tensor: Tensor | None, shape: torch.Size) -> bool:
    if tensor is None or tensor.shape != shape:
        return False
    return tensor.is_floating_point() and _has_numbers(tensor)


def _has_numbers(tensor: Tensor) -> bool:
    """Whether each place of a tensor is in memory, and is one number."""
    two_in_one = tensor.dtype == torch.float4_e2m1fn_x2
    return tensor.layout == torch.strided and not tensor.is_meta and not two_in_one


def _counts(tensor: Tensor) -> bool:
    of_numbers = tensor.is_floating_point() or tensor.dtype in (torch.int32, torch.int64)
    return tensor.numel() == 1 and of_numbers and _has_numbers(tensor)


def _lacking(tensors: Tensors, place: Place) -> list[str]:
    """Names of the trunk's tensors that are not there, or are there in another shape."""
    own, lacking = place.take(tensors), []
    for key, shape in _shapes(place.trunk).items():
        if not _fits(own.get(key), shape):
            is_ = f" {list(shape)} (is {_described(own[key], shape)})" if key in own else ""
            lacking.append(key + is_)
    return lacking


def _described(tensor: Tensor, shape: torch.Size) -> str:
    """Its shape, and of the right one what else it may not fit for."""
    also = f", {tensor.dtype}, {tensor.layout}, on {tensor.device}" * (tensor.shape == shape)
    return f"{list(tensor.shape)}{also}"


def _more_layers(tensors: Tensors, place: Place) -> list[str]:
    """Names behind the prefix that a deeper or another network of the trunk's kind has."""
    shapes = _shapes(place.trunk)
    kinds = {_kind(key) for key in shapes}
    return [
        key
        for key in place.take(tensors)
        if key not in shapes and _kind(key) in kinds
        if not (_COUNTER in key or _CLASSIFIER.match(key))
    ]


def _kind(key: str) -> str:
    """What a layer is called: ``layer#`` of ``layer4.1.conv1.weight``."""
    return re.sub(r"\d+", "#", key.partition(".")[0])


def _alike(tensors: Tensors, trunk: str) -> float:
    """From 0 to 1: for how many of a trunk's tensors there is one of their shape and dimensions."""
    own = _shapes(trunk).values()
    wanted = Counter(kind for shape in own for kind in (shape, len(shape)))
    there = Counter(kind for t in tensors.values() for kind in (t.shape, t.dim()))
    return (wanted & there).total() / wanted.total()


def _groups(names: Iterable[str]) -> list[str]:
    """Names with counts in groups that part after what all have in common."""
    split = [name.split(".") for name in names]
    depth = len(_common(split)) + 1
    groups: dict[str, list[list[str]]] = {}
    for words in split:
        groups.setdefault(".".join(words[:depth]), []).append(words)
    return [f"{'.'.join(_common(group))} ({len(group)})" for group in groups.values()]


def _common(names: Sequence[Sequence[str]]) -> list[str]:
    """The first words that all names share."""
    ranks = takewhile(lambda words: len(set(words)) == 1, zip(*names, strict=False))
    return [words[0] for words in ranks]


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """What of a trunk must be there."""
    with torch.device("meta"):
        tensors = build_trunk(name).state_dict()
    return {key: value.shape for key, value in tensors.items() if _COUNTER not in key}
