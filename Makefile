# make help lists what there is to make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run side by side, one a core; more threads than cores make everything wait for everything.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Where Python is told not to keep compiled files, every test process would compile this package and its tests again.
export PYTHONDONTWRITEBYTECODE :=
# What oneDNN and ATen choose on a processor without AVX-512, where a machine has it.
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
# Counting covered lines is cheap where Python has sys.monitoring, from 3.12 on; before, pure Python takes half as long
# again, so there only make test COVERAGE=yes counts. COVERAGE= leaves it out anywhere.
COVERAGE := $(shell $(PYTHON) -c 'import sys; print("yes" * (sys.version_info >= (3, 12)))')
COVERAGE_CORE = $(shell $(BIN)/python -c 'import sys; print("COVERAGE_CORE=sysmon" * (sys.version_info >= (3, 12)))')

.DEFAULT_GOAL := help
.PHONY: help train test test-avx2 smoke lint format docs

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One job a core: two threads on layers as small as these compute little more than one does.
train: $(VENV)/.installed ## train ResNet-32 without and with targeted dropout, prune both, tabulate
	$(BIN)/run train -m experiment=quickstart dropout=none,targeted hydra/launcher=parallel
	$(BIN)/run table

test: $(VENV)/.installed ## all tests, and how much of the package they cover
	$(ONE_THREAD) $(COVERAGE_CORE) $(BIN)/python -m pytest -n 2 --dist worksteal $(if $(COVERAGE),--cov --cov-report=)
	@$(if $(COVERAGE),printf 'coverage in percent: ' && $(BIN)/coverage report --format=total)

test-avx2: $(VENV)/.installed ## steps of every model and the smoke runs with the kernels of a processor without AVX-512
	$(AVX2) $(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal \
		tests/models/test_memory_format.py tests/test_every_variant.py -k "never_corrupts or (trains and [targeted-)"
	$(AVX2) $(MAKE) smoke

smoke: $(VENV)/.installed ## the real commands, end to end, in seconds each
	rm -rf build/smoke && mkdir -p build
	$(ONE_THREAD) $(BIN)/run train -m model=resnet32 dropout=none,targeted,ramping_unit debug=smoke outputs=build/smoke
	$(BIN)/run table build/smoke outputs=build/smoke
	$(ONE_THREAD) $(BIN)/run prune build/smoke/train prune.sparsities=[0.3] prune.scores=random
	$(BIN)/run list runs build/smoke

lint: $(VENV)/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed ## the documentation as a site, build/site/index.html; links that lead nowhere are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# torch goes first and alone: everything after it then finds its requirement met.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,report,search,slurm,sweep,tensorboard,text]'
	touch $@
