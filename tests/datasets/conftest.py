import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import made


@pytest.fixture
def data(tmp_path):
    """A data set in `tmp_path/data`."""
    return made.write(tmp_path / "data")
