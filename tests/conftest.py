"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import soak

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--device=cpu``: a rehearsal of the tests on a GPU, where there is none."""
    about = "of the tests on a GPU (-m gpu); cpu rehearses them"
    parser.addoption("--device", choices=("cuda", "cpu"), default="cuda", help=about)
    soak.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those of ``-m gpu``, and from the processes that they start."""
    if config.option.markexpr != "gpu" or config.option.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Not in the user's home. torch takes compiled code of other vector instructions from its cache,
    # and computes garbage.
    capability = os.environ.get("ATEN_CPU_CAPABILITY", "all")
    folder = Path(tempfile.gettempdir()) / f"torchinductor-{os.getuid()}-{capability}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    soak.register(config)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name lists of plain values by what they hold, not by their place in the parameters."""
    if isinstance(val, list | tuple) and all(isinstance(v, str | int | float | None) for v in val):
        return " ".join(map(str, val))[:60] or "none"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names of tests that change from process to process: workers would not agree on them.

    Raises:
        UsageError: the name of a parametrised test holds an address.
    """
    for item in items:
        if re.search(r"\bat 0x[0-9a-f]+|<(function|lambda|bound|class|\w+ object)", item.nodeid):
            raise pytest.UsageError(f"{item.nodeid}: give its parameters ids")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real clips in the data sets' own layouts; the test is skipped where they are absent."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("SCE_VIDEO_TEST_DATA", str(default)))
    if not folder.is_dir():
        pytest.skip(f"no real test data in {folder}; set SCE_VIDEO_TEST_DATA")
    return folder.resolve()


@pytest.fixture
def for_the_group() -> Iterator[int]:
    """The mode of a new file under the umask that is set meanwhile."""
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes in one thread meanwhile."""
    import torch  # only where it is asked for: most tests of the converter run without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
