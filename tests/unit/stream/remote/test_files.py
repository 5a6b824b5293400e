"""Files elsewhere: known by what their server says of them."""

from __future__ import annotations

import pytest

from sce_video.errors import SceVideoError
from sce_video.stream.remote.files import RemoteFile
from tests.servers import Server
from tests.unit.stream.remote.conftest import SIZE


def test_files_of_foreign_tars_are_known_by_what_the_server_says(server: Server) -> None:
    url = f"{server.url}/a"
    asked = RemoteFile.ask(url)
    assert asked.size == SIZE
    assert asked.key == RemoteFile.ask(url).key != RemoteFile.ask(f"{server.url}/b").key
    (server.folder / "a").write_bytes(b"changed")
    assert asked.key != RemoteFile.ask(url).key
    server.faults["a"] = ["503"] * 4  # HEAD, then GET, twice
    assert RemoteFile.ask(url).size == 7
    server.faults["a"] = ["503"] * 20
    with pytest.raises(SceVideoError, match=r"HTTP 503 \(5 attempts\)$"):
        RemoteFile.ask(url)
    server.faults["a"], server.sized = [], False
    with pytest.raises(SceVideoError, match="its server tells no size"):
        RemoteFile.ask(url)
