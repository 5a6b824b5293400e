"""What is shipped, and the table of keys."""

from __future__ import annotations

import pytest

from sce_video.cli import main
from sce_video.config.load import configs_folder

keys = pytest.importorskip("sce_video.config.keys", reason="comes with the tables of keys")


def test_every_config_has_a_line_that_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.partition(" ")[0]: line.partition("  ")[2].strip() for line in lines}
    folder = configs_folder()
    shipped = {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}
    assert set(found) == shipped
    assert all(found.values())


def test_the_table_has_every_key_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "--keys"]) == 0
    table = capsys.readouterr().out
    assert table.strip() == keys.keys_markdown().strip()
    known = keys.keys()
    assert all(key.name in table for key in known)
    assert "train.batch_size" in table
