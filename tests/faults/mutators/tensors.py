"""Files of tensors that lie: safetensors with their lengths made again, and zips of pickles."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import Any

from tests.faults.mutators.dice import NUMBERS, OUTSIDE, SIZES, WORDS, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.trees import change, dump

_TYPES = ("F32", "F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X", "")


def _opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _closed(header: str, body: bytes, d: Dice) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    length = d.choice(SIZES) if d.random() < 0.03 else len(text)
    return length.to_bytes(8, "little") + text + body


def tensor_header(data: bytes, d: Dice) -> bytes:
    """Any value of the header."""
    header, body = _opened(data)
    return _closed(dump(change(header, d)), body, d)


def tensor_words(data: bytes, d: Dice) -> bytes:
    """What the JSON in the header's own words says, which must stay a text in the header."""
    header, body = _opened(data)
    said = header.get("__metadata__") or {}
    if not said:
        return tensor_header(data, d)
    name = d.choice(sorted(said))
    try:
        said[name] = dump(change(json.loads(said[name]), d))
    except ValueError:
        said[name] = d.choice(WORDS)
    return _closed(dump(header), body, d)


def tensor_places(data: bytes, d: Dice) -> bytes:
    """Types and shapes of tensors, lost ones, and values that are no numbers."""
    header, body = _opened(data)
    names = [name for name in header if name != "__metadata__"]
    made = bytearray(body)
    for _ in range(d.choice((1, 1, 3))):
        name = d.choice(names)
        place = header[name] = dict(header.get(name) or header[names[0]])
        start, end = place["data_offsets"]
        kind = d.randrange(7)
        if kind == 0:
            place["dtype"] = d.choice(_TYPES)
        elif kind == 1:
            place["shape"] = [d.choice((0, 1, 2, *SIZES)) for _ in range(d.randrange(6))]
        elif kind == 2:
            place["shape"] = place["shape"][::-1]
        elif kind == 3:
            header[d.choice((*WORDS, f"{name}.{name}"))] = header.pop(name)
            names = [name for name in header if name != "__metadata__"]
        elif kind == 4:
            place["data_offsets"] = [d.choice((start, *SIZES)), d.choice((end, *SIZES))]
        else:
            value = struct.pack("<d", d.choice((float("nan"), float("inf"), 1e300, -1.0)))
            value = d.choice((value, value, b"\xff" * 8, bytes(8)))
            made[start:end] = (value * ((end - start) // 8 + 1))[: end - start]
    return _closed(dump(header), bytes(made), d)


def _calls(command: str) -> bytes:
    """A pickle that runs a command where it is opened."""
    return b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."


_PICKLES = (
    *(_calls(f"touch ../{OUTSIDE}"), b"c__main__\nEvil\n)\x81.", b"cbuiltins\neval\n(S'1'\ntR."),
    *(b"\x80\x02}q\x00.", b"\x80\x02]q\x00(h\x00h\x00e.", b".", b"", b"\x80\x05K\x01."),
    *(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", b"\x80\x02" + b"(" * 100_000 + b"."),
    b"\x80\x02" + b"]" * 5_000 + b"a" * 4_999 + b".",
    b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    b"\x80\x02cargparse\nNamespace\n)\x81.",
    b"\x80\x02csce\nx\x1b[2Jy\n)\x81.",
    b"L" + b"9" * 5_000 + b"L\n.",
)


def zip_pickle(data: bytes, d: Dice) -> bytes:
    """A zip of torch.save's, its sums made again around what lies in it."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    name = d.choice(sorted(parts))
    pickled = next((part for part in parts if part.endswith("data.pkl")), name)
    kind = d.randrange(8)
    if kind < 2:
        parts[pickled] = d.choice(_PICKLES)
    elif kind < 4:
        parts[pickled] = _opcode(parts[pickled], d)
    elif kind == 4:
        parts[name] = damage(parts[name], d)
    elif kind == 5:
        parts.pop(name)
    elif kind == 6:
        parts[d.choice((f"../{OUTSIDE}", "archive/" + "x" * 999, *WORDS))] = parts.pop(name)
    else:
        parts[name] = bytes(d.choice((0, 1, 1 << 24)))
    packing = d.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as new:
        for part, content in parts.items():
            info = zipfile.ZipInfo(part.encode("utf-8", "replace").decode()[:9_999] or "_")
            info.compress_type = packing
            new.writestr(info, content)
    return made.getvalue()


def _opcode(pickled: bytes, d: Dice) -> bytes:
    """A pickle with a number or a word changed."""
    made = bytearray(pickled)
    at = d.randrange(max(len(made), 1))
    replacement = d.choice((*NUMBERS, *WORDS)).encode("utf-8", "surrogatepass")[:40]
    words = (b"storage", b"FloatStorage", b"_rebuild_tensor_v2", b"OrderedDict", b"cpu", b"torch")
    word = d.choice([word for word in words if word in made] or [b""])
    if word and d.random() < 0.4:
        return bytes(made.replace(word, d.choice((b"os", b"system", word[::-1], word * 2))))
    if d.random() < 0.5:
        return bytes(made[:at]) + replacement + bytes(made[at:])
    return damage(bytes(made), d)


def pickles(data: bytes, d: Dice) -> bytes:
    """What older versions wrote: pickles one behind the other, without a zip."""
    if d.random() < 0.3:
        return d.choice(_PICKLES)
    return _opcode(data, d)


tensor_file: Mutator = one_of(*[tensor_header, tensor_words, tensor_places] * 2, damage)
zip_file: Mutator = one_of(*[zip_pickle] * 4, damage)
pickle_file: Mutator = one_of(pickles, pickles, damage)
