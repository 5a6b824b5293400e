"""Standard output and standard error: the only writer of both.

What is written holds nothing that a terminal acts upon, whatever names are in it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sce_video.text import printable


class OutputClosed(BrokenPipeError):  # noqa: N818  (not a failure)
    """Whoever read standard output, such as ``head``, has seen enough."""


def say(*lines: object) -> None:
    """Print each of ``lines`` as one line on standard output: what the user asked for.

    Raises:
        OutputClosed: nobody reads it any more.
        OSError: it cannot be written.
    """
    try:
        for line in lines:
            print(printable(str(line)), file=sys.stdout)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed(error.errno, error.strerror) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def note(*lines: object) -> None:
    """Print each of ``lines`` as one line on standard error; lost where nobody can read it."""
    if sys.stderr is not None:  # else print would take standard output
        with unread():
            for line in lines:
                print(printable(str(line)), file=sys.stderr)
            sys.stderr.flush()


@contextmanager
def unread() -> Iterator[None]:
    """Context in which what a stream cannot take is lost, and all that comes after it."""
    try:
        yield
    except OSError:
        drop_unwritten()


def settle_streams() -> None:
    """Have three open streams, that take any character; processes that are started have them, too.

    Where a shell closed one (``>&-``), the next file to be opened would get its number, and what
    libraries print there would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for good
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors="backslashreplace")


def drop_unwritten() -> None:
    """Let what the streams hold and cannot write go nowhere, and all that comes after it.

    Else it would be tried again where a process is started, and at Python's end.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None or getattr(stream, "closed", False):  # a user's own may lack it
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with suppress(OSError, AttributeError):  # of a stream that is no file
                os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
