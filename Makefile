# `make demo` and `make test` set everything up by themselves; a second run installs nothing.
# As root, `make test` also installs the Debian packages of packages.txt that are missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DEBIAN := $(VENV)/.debian

.PHONY: demo test lint format types tests docs bench bench-peers bench-models bench-sound bench-arm train-digits clean

demo: $(READY)
	$(BIN)/python benchmarks/demo.py

test: lint types tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy

tests: $(READY) $(DEBIAN)
	$(BIN)/pytest

# The pages as a site, in site/; open site/index.html. A broken link or a docstring that cannot be read is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python benchmarks/layer_speed.py

# Others' MobileViTv2 and converters beside ours; bench-models is its old name. Not part of the tests.
bench-peers bench-models: $(READY)
	$(BIN)/python -m benchmarks.peers

bench-sound: $(READY)
	$(BIN)/python benchmarks/sound.py

train-digits: $(READY)
	$(BIN)/python -m sample_models.digits.train

bench-arm: $(READY) $(DEBIAN)
	$(BIN)/python benchmarks/arm_counts.py

# Where they cannot be installed, the tests that need them are skipped, and say so.
$(DEBIAN): packages.txt | $(READY)
	@missing=$$(for name in $$(grep -v '^#' packages.txt); do \
	    dpkg -s $$name >/dev/null 2>&1 || command -v $$name >/dev/null || echo $$name; done); \
	if [ -z "$$missing" ]; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing && touch $@; } >/dev/null; \
	else echo "not installed, so what needs them is not tested: apt-get install -y" $$missing; fi

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build site demo-bundle demo-digits-bundle demo-report.html *.egg-info
