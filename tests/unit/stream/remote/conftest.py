"""Files on a server."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sce_video.stream.remote.files import RemoteFile
from tests.servers import Server

SIZE = 100_000


def content(name: str) -> bytes:
    return np.random.default_rng(ord(name)).bytes(SIZE)


def file(server: Server, name: str) -> RemoteFile:
    sha256 = hashlib.sha256(content(name)).hexdigest()
    return RemoteFile.of_set(server.url, "digest", name, SIZE, sha256)


@pytest.fixture
def server(server: Server) -> Server:
    """The room's server, which has files ``a`` to ``d``, too."""
    for name in "abcd":
        (server.folder / name).write_bytes(content(name))
    return server
