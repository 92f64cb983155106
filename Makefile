# The two commands of the README, `make train` and `make test`, and what a contributor runs besides.
# Each but gpu-check makes .venv first where it is missing or pyproject.toml is newer. Another Python: make PYTHON=python3.13 test

BIN := .venv/bin

.PHONY: train test lint format types docs images bench gpu-check dist release-check

train: .venv/plain
	$(BIN)/xpnet train

# A worker per core, each with one BLAS thread: the products are small, and threads of several workers would wait for each other.
# The tests of a file stay together as long as there is work for all, so that what they share is made once.
test: .venv/dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/dev
	$(BIN)/mypy

# The manual, in build/docs: open build/docs/index.html, or, for its search: python -m http.server --directory build/docs
docs: .venv/docs
	$(BIN)/mkdocs build --strict

# The images of the README and the manual, from the real pages, in headless Chromium: after a change of either page.
images: .venv/dev
	$(BIN)/python -m docs.generate.images

# The source archive, and the wheel that is built from it, in dist/.
dist: .venv/dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

# Both archives in empty environments of each Python that is here (make release-check PYTHONS="python3.13 /opt/py/bin/python").
release-check: dist
	$(BIN)/python benchmarks/release_check.py $(PYTHONS)

# Beside the rivals that are installed there: pip install torch==2.13.0 jax scikit-learn
bench: .venv/dev
	$(BIN)/python -m benchmarks.bench

# From the source tree and with the CuPy that is installed there, so that it also runs where nothing can be installed.
gpu-check:
	$(or $(PYTHON),$(wildcard $(BIN)/python),python3) -m benchmarks.gpu_check

.venv/plain: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --editable ".[plots]"
	touch $@

.venv/dev: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --editable ".[dev]"
	touch $@ .venv/plain

.venv/docs: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --editable ".[docs]"
	touch $@

$(BIN)/pip:
	@$(or $(PYTHON),python3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "xpnet needs Python 3.11 or newer. Name one: make PYTHON=python3.13 ..."; exit 1; }
	$(or $(PYTHON),python3) -m venv .venv
