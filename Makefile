# `make demo` and `make test` set everything up by themselves; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test lint format types tests bench bench-peers bench-models bench-sound train-digits clean

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

tests: $(READY)
	$(BIN)/pytest

bench: $(READY)
	$(BIN)/python benchmarks/layer_speed.py

# Others' MobileViTv2 and converters beside ours; bench-models is its old name. Not part of the tests.
bench-peers bench-models: $(READY)
	$(BIN)/python -m benchmarks.peers

bench-sound: $(READY)
	$(BIN)/python benchmarks/sound.py

train-digits: $(READY)
	$(BIN)/python -m sample_models.digits.train

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build demo-bundle *.egg-info
