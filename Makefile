# `make` lists the targets. `make train` and `make test` are each all that a fresh machine needs.

CONFIG ?= configs/demo.toml
ARGS ?=
PYTHON ?= python3
ACCELERATOR ?= $(if $(shell command -v nvidia-smi),cuda,cpu)
JOBS ?= 2

EXTRA_cpu :=
EXTRA_cuda := [cuda]
EXTRA_tpu := [tpu]
ifeq ($(filter cpu cuda tpu,$(ACCELERATOR)),)
$(error ACCELERATOR must be cpu, cuda or tpu, got '$(ACCELERATOR)')
endif

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
INSTALLED := .venv/.installed-$(ACCELERATOR)
TEST_INSTALLED := .venv/.installed-test
BENCH_INSTALLED := .venv/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help install install-bench train test lint types gradcheck figures bench clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

install: $(INSTALLED)  ## make .venv and install windownet (ACCELERATOR=cpu|cuda|tpu; by default cuda where there is an NVIDIA GPU)

install-bench: $(BENCH_INSTALLED)  ## install the peers that benchmarks race, and what draws figures

train: $(INSTALLED)  ## train a tagger (CONFIG=configs/demo.toml ARGS="train.epochs=3 ...")
	$(BIN)/windownet train $(CONFIG) $(ARGS)

test: $(TEST_INSTALLED)  ## run the tests (JOBS=2 at a time)
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

lint: $(TEST_INSTALLED)  ## check style and formatting
	$(BIN)/ruff check --output-format concise
	$(BIN)/ruff format --check

types: $(TEST_INSTALLED)  ## check types
	$(BIN)/mypy

gradcheck: $(INSTALLED)  ## prove the gradients of a config on its own data (CONFIG=... ARGS=...)
	$(BIN)/windownet gradcheck $(CONFIG) $(ARGS)

figures: LECTURE := window_by_hand graph_by_hand numeric_gradient overfitting nonlinearities initialization optimizers learning_rates word_vectors_move freeze_or_finetune
figures: $(BENCH_INSTALLED)  ## draw every figure of docs/lecture.md (VECTORS='FILE ...' SETS='NAME=CONFIG ...': the same of real data)
	$(if $(VECTORS),$(if $(SETS),,$(error VECTORS requires SETS='NAME=CONFIG ...', the real data sets of docs/measurements.md)))
	$(BIN)/python scripts/training_picture.py
	for name in $(LECTURE); do $(BIN)/python scripts/$$name.py --figure docs/$$name.png --document docs/lecture.md || exit; done
ifdef VECTORS
	$(BIN)/python scripts/word_vectors_move.py $(firstword $(VECTORS)) --figure docs/word_vectors_move_wikipedia.png --document docs/measurements.md
	$(BIN)/python scripts/freeze_or_finetune.py $(VECTORS) $(SETS) --figure docs/freeze_or_finetune_wikipedia.png --document docs/measurements.md
endif

bench: RESULTS := --document docs/measurements.md
bench: REAL := $(if $(DATA),--data '$(DATA)')
bench: $(BENCH_INSTALLED)  ## race the peers and fill docs/measurements.md in (DATA=DIR: the data sets' folder)
	$(BIN)/python benchmarks/data_sets.py $(REAL) $(RESULTS)
	$(BIN)/python benchmarks/train_step.py $(REAL) $(RESULTS)
	$(BIN)/python benchmarks/gradients.py --figure docs/gradients.png $(REAL) $(RESULTS)
	$(BIN)/python benchmarks/gradient_checkers.py $(RESULTS)
	$(BIN)/python benchmarks/row_sparse.py $(RESULTS)
	$(BIN)/python benchmarks/start_up.py $(RESULTS)
	$(BIN)/python benchmarks/pretrain.py $(REAL) $(RESULTS)
	$(BIN)/python benchmarks/experiment.py $(RESULTS)
	$(BIN)/python benchmarks/checkpoints.py $(RESULTS)
	$(BIN)/python benchmarks/kills.py $(RESULTS)

clean:  ## remove what make made, but no run
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "windownet needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv

$(INSTALLED): pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing windownet for $(ACCELERATOR) into .venv ..."
	$(PIP) --editable '.$(EXTRA_$(ACCELERATOR))'
	@touch $@

$(TEST_INSTALLED): $(INSTALLED)
	$(PIP) --editable '.[test]'
	@touch $@

$(BENCH_INSTALLED): $(TEST_INSTALLED)
	$(PIP) --editable '.[bench]'
	@touch $@
