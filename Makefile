# Two commands stand alone on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test slow lint type format install install-test clean

demo: install
	$(BIN)/zoo train clip

test: install-test
	$(BIN)/zoo data get --tests
	$(PYTEST) -n 2 --dist loadgroup -m "not slow and not gpu and not network"

slow: install-test
	$(BIN)/zoo data get --tests
	$(PYTEST) -m "slow and not gpu" --timeout 3600

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy cannot follow package-dir, so it reads an installed copy.
type: install-test
	@rm -rf build/typed build/lib && mkdir -p build
	@$(BIN)/python -m pip install -q --no-deps --target build/typed .
	cd build/typed && ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml --cache-dir ../mypy-cache -p zoo

install: $(VENV)/installed
install-test: $(VENV)/installed-test

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "zoo needs Python 3.11 to 3.13; set PYTHON=/path/to/python3.x"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
