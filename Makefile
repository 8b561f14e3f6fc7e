# Two commands do all the set-up: `make demo` and `make test`. `make lint` runs the cheap checks.
# `make test-all` is what has to pass: every example of every law. `make coverage` measures apart:
# on Python 3.11 a tracer doubles the time.
# Another interpreter: make test PYTHON=python3.13
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: demo test test-all coverage lint format setup clean

demo: $(STAMP)
	$(BIN)/abscise demo $(ARGS)

# One thread per worker: two workers with a thread pool each would fight for the same cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=10 $(ARGS)

test-all: $(STAMP)
	OMP_NUM_THREADS=1 ABSCISE_THOROUGH=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=10 $(ARGS)

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(STAMP)

# torchvision is for the tests only and comes without its dependencies, which would replace torch.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,tensorboard,report,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps torchvision
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage build dist
