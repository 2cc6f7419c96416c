"""Every command of docs/serve.md is run, as it is written there."""

import re
import shutil

import pytest

from sw.aperture import FOLDER
from sw.journal import read_journal
from tests.test_readme import REPOSITORY, shell

BLOCKS = re.findall(
    r"^```sh\n(.*?)^```", (REPOSITORY / "docs" / "serve.md").read_text(), re.M | re.S
)
NAMES = {"demo": "card.log", "short": "short.log"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("serve")
    shutil.copytree(REPOSITORY / "docs", made / "docs")
    return made


def test_commands_of_the_page_do_what_it_says(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # This checkout, whichever is installed.
    for block in BLOCKS:
        ran = shell(block, folder)
        assert ran.returncode == 0, (block, ran.stderr)
        assert "│ orders " in ran.stdout
    for name, log in NAMES.items():
        said = (folder / log).read_text().splitlines()
        assert re.fullmatch(rf"card {name}: host \d+ attached", said[1])
        assert re.match(rf"card {name}: host \d+ detached, 0 orders canceled, ", said[2])
        assert said[3:] == [f"card {name}: ended"]
        assert not (FOLDER / f"tickwire.{name}").exists()
    with (folder / "run.twj").open("rb") as file:
        assert len(list(read_journal(file))) > 100
