"""The exception tree and the exit codes of every command.

0 done, 1 failed, 2 usage or configuration, 3 verification failed, 130 interrupted after saving.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from sce_video.text import printable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_VERIFY = 3
EXIT_INTERRUPTED = 130


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class SceVideoError(Exception):
    """A failure whose message is one line that names the file and says what to do."""

    exit_code = EXIT_FAILED


class UsageError(SceVideoError):
    """A wrong command line, configuration or folder: nothing was started."""

    exit_code = EXIT_USAGE


class VerificationError(SceVideoError):
    """Data that do not match their manifest, or a strict evaluation with missing samples."""

    exit_code = EXIT_VERIFY


class Interrupted(SceVideoError):  # noqa: N818  (not a failure)
    """Stopped by a signal after everything was saved."""

    exit_code = EXIT_INTERRUPTED


def run_command(command: Callable[[], int], *, verbose: bool = False, quiet: bool = False) -> int:
    """Run ``command`` and turn a :class:`SceVideoError` into one line and its exit code.

    Args:
        command: does the work and returns an exit code.
        verbose: print the traceback as well (``-v``).
        quiet: print nothing (another rank does).

    Returns:
        The exit code. A file that cannot be read or written is one line, too; exceptions of other
        types are bugs and keep their traceback.
    """
    try:
        _settle_streams()
        code = command()
        if sys.stdout:
            sys.stdout.flush()
        return code
    except SceVideoError as error:
        if verbose:
            traceback.print_exc()
        if not quiet:
            complain(error)
        return error.exit_code
    except BrokenPipeError:  # whoever read our output, such as ``head``, has seen enough
        _silence()
        return EXIT_FAILED
    except OSError as error:
        if verbose or error.errno is None:
            raise
        # What another rank's log has no room for is said nowhere else.
        if not quiet or error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            complain(f"{where}{error.strerror}")
        _silence()  # what stdout still holds would fail again as Python ends
        return EXIT_FAILED
    except MemoryError:
        if verbose:
            raise
        complain("the memory is used up; give less at a time")
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED


def complain(what: object) -> None:
    """Print one line on standard error; where that cannot be written, nobody is there to read."""
    with suppress(OSError):
        print(f"sce-video: {printable(str(what))}", file=sys.stderr, flush=True)


def _settle_streams() -> None:
    """Have three open streams, that take any character.

    Where a shell closed one (``>&-``), the next file to be opened would get its number, and what
    libraries print there would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors="backslashreplace")


def _silence() -> None:
    """Let what standard output still holds go nowhere, if it cannot be written."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
