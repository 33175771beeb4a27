# `make demo` and `make test` set everything up by themselves; a second run installs nothing.
# As root, `make test` also installs the Debian packages of packages.txt that are missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# What the demo needs and no more; nothing else, where all is installed.
DEMO := $(if $(wildcard $(VENV)/.installed),$(READY),$(VENV)/.demo)
PIP := $(BIN)/python -m pip install --no-deps --require-hashes
DEBIAN := $(VENV)/.debian
# Where PyTorch without CUDA is: PyPI does not have it. `make lock TORCH_LINKS=FOLDER` takes it from a folder.
TORCH_LINKS ?= https://download.pytorch.org/whl/cpu/torch/

.PHONY: demo test lint format types tests docs lock audit bench bench-peers bench-models bench-sound bench-arm
.PHONY: bench-spellings bench-family train-digits train-fashion train-scenes clean

demo: $(DEMO)
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

# Whole files side by side, each on one thread: PyTorch's own threads only get in each other's way here.
tests: $(READY) $(DEBIAN)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

# The pages as a site, in site/; open site/index.html. A broken link or a docstring that cannot be read is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python benchmarks/layer_speed.py

# Others' MobileViTv2 and converters beside ours; bench-models is its old name. Not part of the tests.
bench-peers bench-models: $(READY)
	$(BIN)/python -m benchmarks.peers

# The attention in 500 spellings, and 500 near misses: lowered, compared, counted; some exported.
bench-spellings: $(READY)
	$(BIN)/python benchmarks/all_spellings.py

# Models of timm and transformers, through the stock converters and through edgeattn.
bench-family: $(READY)
	$(BIN)/python -m benchmarks.family

bench-sound: $(READY)
	$(BIN)/python benchmarks/sound.py

train-digits: $(READY)
	$(BIN)/python -m edgeattn.sample_models.digits.train

# Goes on where it was stopped: build/fashion has the last whole epoch.
train-fashion: $(READY) $(DEBIAN)
	$(BIN)/python -m edgeattn.sample_models.fashion.train

# From the fashion sample's weights on.
train-scenes: $(READY) $(DEBIAN)
	$(BIN)/python -m edgeattn.sample_models.scenes.train

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

# All that is installed is in the locks, by hash. Nothing is resolved: pip check says whether something is missing.
# PyTorch is looked for where pip is set to look, and then where it comes from.
$(READY): LOCK := requirements.txt
$(VENV)/.demo: LOCK := requirements-demo.txt
$(READY) $(VENV)/.demo: pyproject.toml requirements.txt requirements-demo.txt requirements-torch.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -qqq -r requirements-torch.txt || $(PIP) -q --find-links $(TORCH_LINKS) -r requirements-torch.txt
	$(PIP) -q -r $(LOCK)
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --no-index -e .
	$(BIN)/python -m pip check
	touch $@

# After a change in pyproject.toml; `make lock UPGRADE=--upgrade` takes the newest of everything.
lock:
	test -x $(BIN)/uv || $(MAKE) $(READY)
	$(BIN)/uv pip compile --quiet --custom-compile-command "make lock" $(UPGRADE) \
	    --find-links $(TORCH_LINKS) pyproject.toml requirements-torch.txt -o requirements.txt
	$(BIN)/python tools/demo_lock.py

# Known vulnerabilities of what is locked, as PyPI tells them; PyTorch by its version there. A package that PyPI does not
# answer for is an error: it would pass for sound.
audit: $(READY)
	cat requirements.txt requirements-torch.txt | sed 's/+cpu//' > $(VENV)/audit.txt
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r $(VENV)/audit.txt $(AUDIT)

clean:
	rm -rf $(VENV) build site demo-bundle demo-digits-bundle demo-report.html *.egg-info
