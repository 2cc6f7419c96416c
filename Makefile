# Every target sets up what it needs; a second run does not install again.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
# It needs an older NumPy than the project.
HFTBACKTEST := build/hftbacktest
CARD ?= functional

.PHONY: demo test lint prove soak bench calibrate docs setup clean

demo: $(STAMP)
	$(BIN)/tickwire generate build/demo/market.itch50 --symbol TICK --symbol WIRE --symbol RING
	$(BIN)/tickwire run docs/demo.toml --card $(CARD) \
		--report build/demo/report.html --journal build/demo/journal.twj
	@echo "The report with its plots: build/demo/report.html"

test: $(STAMP) lint
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m protocol.emit.markdown_table --check docs/*.md

# Proofs are part of the tests; this shows them alone, with what each proves.
prove: $(STAMP)
	$(BIN)/python -m pytest tests/formal -v -n auto -rP
	$(BIN)/python -m pytest tests/hls -v -k "prove or proof"

# A million random messages through the feed path; another seed each time, or TICKWIRE_SEED.
soak: $(STAMP)
	$(BIN)/python -m sim.tb.soak

# Cycles, clocks and areas with their budgets, and what has a peer beside it; PARTS="cycles" is one.
# A peer that cannot be installed is left out.
bench: $(PEERS)
	$(BIN)/python -m bench $(PARTS)

# What the operations of kernels take on the card, placed one by one; writes hw/hls/delays.json.
calibrate: $(STAMP)
	$(BIN)/python -m bench.calibrate

docs: $(STAMP)
	$(BIN)/python -m protocol.emit.markdown_table docs/*.md

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(SHELL) ./prerequisites.sh "$(PYTHON)"
	@echo "Setting up $(VENV) from PyPI; this takes a minute or two and is done once."
	@$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(PEERS): $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	-$(BIN)/python -m venv --clear $(HFTBACKTEST) && \
		$(HFTBACKTEST)/bin/python -m pip install --quiet --disable-pip-version-check hftbacktest || \
		rm -rf $(HFTBACKTEST)
	@touch $@

clean:
	rm -rf $(VENV) build
