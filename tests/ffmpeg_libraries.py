"""FFmpeg's shared libraries for torchcodec, out of PyAV's wheel: the same decoders in both."""

from __future__ import annotations

import re
from pathlib import Path

import av


def link_libraries(folder: Path) -> Path | None:
    """Fill ``folder`` (for LD_LIBRARY_PATH of a new process); None where the wheel has none.

    The wheel gives the libraries hashed names; torchcodec looks for the usual ones.
    """
    bundled = Path(av.__file__).parent.parent / "av.libs"
    if not bundled.is_dir():
        return None
    for library in bundled.iterdir():
        (folder / library.name).symlink_to(library)
        if usual := re.match(r"(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)", library.name):
            (folder / f"{usual[1]}.so.{usual[2]}").symlink_to(library)
    return folder
