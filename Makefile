# One command each: make demo, make test, make napari. The rest is for developers.
#   PYTHON=python3.12 make demo     another interpreter (3.11 or later)
#   make demo DEMO_ARGS="--help"    further options of the command behind the target
#   make test PYTEST_JOBS=0          tests one after the other, in one process

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# pip draws its bars on a terminal and keeps to itself in a log.
PIP = $(PY) -m pip --disable-pip-version-check --no-input install \
	$$(test -t 2 || printf %s -q) -c constraints.txt
STAMPS := $(VENV)/.stamps
RECIPE_OF_INSTALL := pyproject.toml constraints.txt

DEMO_ARGS ?=
NAPARI_ARGS ?=
PYTEST_ARGS ?=
PYTEST_JOBS ?= 2
TRAIN_ARGS ?= --minutes 180
TRAIN_IMAGES ?=
TRAIN_OUT ?= runs/fluorescence
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test screen napari lint format train bench clean

help:
	@echo "make demo     restore two photon-starved images into demo-output/"
	@echo "make test     run the tests"
	@echo "make napari   open napari with the dock widget on a sample"
	@echo "make lint     ruff and mypy         make format   let ruff rewrite"
	@echo "make train    train a prior like the shipped one (TRAIN_IMAGES=folder; hours)"
	@echo "make bench    print the figures of the README"
	@echo "make clean    remove the environment, builds and caches"

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "napari-dps needs Python 3.11 or later; $(PYTHON) is missing or older:" \
			"name one with 'make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)'." >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment: install its venv module" \
			"(Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/package: $(STAMPS)/venv $(RECIPE_OF_INSTALL)
	@echo "Installing napari-dps into $(VENV) (the first time takes minutes: PyTorch is large)"
	@$(PIP) -e .
	@touch $@

$(STAMPS)/qt: $(STAMPS)/package
	@echo "Installing a Qt binding"
	@$(PIP) -e '.[qt]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/package
	@echo "Installing what the tests need"
	@$(PIP) -e '.[test]'
	@touch $@

$(STAMPS)/lint: $(STAMPS)/package
	@echo "Installing ruff and mypy"
	@$(PIP) -e '.[lint]'
	@touch $@

$(STAMPS)/bench: $(STAMPS)/package
	@echo "Installing what the benchmarks compare with"
	@$(PIP) -e '.[bench]'
	@touch $@

demo: $(STAMPS)/package
	$(BIN)/napari-dps demo --out demo-output $(DEMO_ARGS)

screen:
	@sh tools/install-screen.sh

test: $(STAMPS)/test screen
	sh tools/with-screen.sh $(PY) -m pytest -n $(PYTEST_JOBS) --dist worksteal $(PYTEST_ARGS)

napari: $(STAMPS)/qt
	$(PY) tools/open_napari.py $(NAPARI_ARGS)

lint: $(STAMPS)/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src

format: $(STAMPS)/lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Named images (files or folders) join the synthetic ones; a run that was stopped goes on.
train: $(STAMPS)/package
	$(BIN)/napari-dps train $(or $(TRAIN_IMAGES),--synthetic) -o $(TRAIN_OUT) $(TRAIN_ARGS) \
		$(if $(wildcard $(TRAIN_OUT)/checkpoint.pt),--resume)

bench: $(STAMPS)/bench
	$(PY) benchmarks/restore.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
