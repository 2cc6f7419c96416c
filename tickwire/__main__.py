"""``python -m tickwire``."""

from tickwire.cli import app

app(prog_name="tickwire")
