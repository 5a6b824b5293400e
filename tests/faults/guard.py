"""What a reader must not do with an input: leave its folder, ask the network, start programs."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from tests.faults.mutators.dice import OUTSIDE

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"}
_OWN = (("::1", 0),)  # what urllib3 binds as it is imported, to see whether there is IPv6
_PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.link", "os.symlink"}
_CHANGES |= {"os.truncate", "shutil.rmtree", "shutil.move"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_BAITS = ("/etc/passwd", "/dev/zero")
_WRITABLE = ("/dev/", "/proc/self/")  # where all may write


class Guard:
    """Python's audit events while an input is read; made once a process, for good."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._folder, self._anywhere = "", False
        sys.addaudithook(self._hear)

    def watch(self, folder: Path, *, anywhere: bool) -> None:
        """From now on, files are those of ``folder``; ``anywhere``: others may be read."""
        self.problems, self._folder = [], os.path.realpath(folder)
        self._anywhere = anywhere

    def end(self) -> list[str]:
        """What was done that must not be; nothing is watched from now on."""
        self._folder = ""
        return self.problems

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._folder:
            return
        if event == "open":
            self._opened(args[0], args[2])
        elif event in _CHANGES and not self._inside(args[0]) and not _is_shared(args[0]):
            self.problems.append(f"{event} outside: {args[0]!r}")
        elif event in _PROGRAMS:
            self.problems.append(f"{event}: {args[:2]!r}")
        elif event in _NETWORK and args[1:2] != _OWN:
            self.problems.append(f"{event}: {args[1:2]!r}")
            raise ConnectionRefusedError(errno.ECONNREFUSED, "there is no network here")

    def _opened(self, path: object, flags: int | None) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or self._inside(path):
            return
        name = os.fsdecode(path)
        if (flags or 0) & os.O_EXCL and self._inside(Path(name).parent):
            return  # follows no link
        if (flags or 0) & _WRITES and not name.startswith(_WRITABLE):
            self.problems.append(f"written outside: {name!r}")
        elif (OUTSIDE in name or name in _BAITS) and not self._anywhere:
            self.problems.append(f"opened outside: {name!r}")

    def _inside(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor: its opening was looked at
        try:
            real = os.path.realpath(os.fsdecode(path))
        except ValueError:  # a NUL in it: no file
            return True
        return real == self._folder or real.startswith(self._folder + "/")


def _is_shared(path: object) -> bool:
    """Whether it is what multiprocessing makes and removes in the system's shared memory."""
    return isinstance(path, str) and path.startswith("/dev/shm/pym-")  # noqa: S108
