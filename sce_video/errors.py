"""The exception tree and the exit codes of every command.

0 done, 1 failed, 2 usage or configuration, 3 verification failed, 130 interrupted after saving.
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Callable

from sce_video.terminal import OutputClosed, drop_unwritten, note, say, settle_streams
from sce_video.text import printable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_VERIFY = 3
EXIT_INTERRUPTED = 130
_NO_ROOM = re.compile("can't allocate memory|^CUDA out of memory")  # torch's, by RuntimeError
_LONGEST = 3_000  # characters of a message: paths may have many
_SHOWN = 200  # characters of a name, at most
_ENCODED = "cannot be written in {}; give another name, or set LC_ALL=C.UTF-8"


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class SceVideoError(Exception):
    """A failure whose message is one line that names the file and says what to do.

    Names in it may be anybody's: what a terminal would act upon is written out.
    """

    exit_code = EXIT_FAILED

    def __str__(self) -> str:
        text = printable(super().__str__())
        if len(text) > _LONGEST:  # a name or value of megabytes: the file and the way out remain
            return f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        return text


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
    settle_streams()
    try:
        code = command()
        say()  # what others printed, too
        return code
    except OutputClosed:
        return EXIT_FAILED
    except KeyboardInterrupt:
        if not quiet:
            complain("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        if verbose:
            note(*traceback.format_exc().splitlines())
        # What another rank's log has no room for is said nowhere else.
        if not quiet or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            complain(line)
        return error.exit_code if isinstance(error, SceVideoError) else EXIT_FAILED
    finally:
        drop_unwritten()


def _line(error: Exception) -> str | None:
    """What is wrong, where it is no bug of ours."""
    if isinstance(error, SceVideoError):
        return str(error)
    if isinstance(error, MemoryError) or _NO_ROOM.search(str(error)):
        return "the memory is used up; give less at a time (a batch, a queue, workers)"
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[:_SHOWN]}: {_ENCODED.format(error.encoding)}"
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{where}{error.strerror or first_line(error)}"
    return None


def complain(what: object) -> None:
    """Print one line on standard error; where that cannot be written, nobody is there to read."""
    note(f"sce-video: {what}")
