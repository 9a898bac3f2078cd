# Everything happens in the checkout's own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install run test test-long test-all check lint docs fuzz bench gpu gpu-wheels clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# The main job, see the README for how long; goes on where it was interrupted.
run: install
	$(BIN)/tasklens run default --out runs/default --resume

# Less than 20 minutes on two cores, a run of the default preset included.
bench: install
	$(BIN)/python benchmarks/run_all.py

# On a machine with a CUDA GPU, with the Python and the packages that are there: no venv, no network.
DEVICE ?= cuda
PRESET ?= paper
GPU_OUT ?= gpu-results
gpu:
	$(PYTHON) benchmarks/gpu.py --device $(DEVICE) --preset $(PRESET) --out $(GPU_OUT)

# Beforehand, on a machine with a package registry: what the one with the GPU may lack, for its Python.
GPU_PYTHON ?= 3.12
GPU_TAGS := $(foreach n,28 27 17,manylinux_2_$(n)_x86_64) manylinux2014_x86_64
gpu-wheels:
	rm -rf wheels
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
		--python-version $(GPU_PYTHON) $(GPU_TAGS:%=--platform %) \
		-c constraints.txt -r benchmarks/gpu-wheels.txt -d wheels
	du -sh wheels

# Everything: what CI runs. See CONTRIBUTING.md for how long.
test-all: test test-long

# The checks, and all tests but the long ones.
test: check
	$(BIN)/pytest -n 2 --dist loadfile -m "not long"

# The long tests (a Ray cluster, torchrun), and the properties and the fuzz on 20 times as many
# examples.
test-long: install
	TASKLENS_FUZZ=20 $(BIN)/pytest -n 2 --dist loadfile -m "long or fuzz"

# Attacks, counted by what came of them: the table of docs/results/reliability.md. See tests/campaign.
MINUTES ?= 15
FUZZ_OPTIONS ?=
fuzz: install
	PYTHONPATH=tests $(BIN)/python -m campaign --minutes $(MINUTES) $(FUZZ_OPTIONS)

# The two take about as long as each other, a core each.
check: install
	$(MAKE) --no-print-directory -j 2 lint docs

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# The pages as a site that is read from the disk, build/docs/index.html; a warning is an error.
docs: install
	$(BIN)/sphinx-build -q -W -n --keep-going -d build/doctrees docs build/docs

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
