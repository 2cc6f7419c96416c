"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


DATA = Path(os.environ.get("TICKWIRE_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real captures; skips the test where it does not exist."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: {DATA} does not exist (set TICKWIRE_DATA)")
    return DATA


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """The same folder for tests of which only a part needs it; None where it does not exist."""
    return DATA if DATA.is_dir() else None
