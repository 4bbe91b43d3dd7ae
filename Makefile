# The two commands of the README, and the checks. Everything is installed into .venv; nothing needs root.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Two workers at a time wait, for SLURM or a time limit: see tests/schedule.py. The others are more than there are cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(max(5, os.cpu_count() or 1))')
# Bytecode is kept: without it each worker translates all tests again, and each process that they start the toolkit.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
# pip translates each package by one process: here all cores do it, once all is there. What is no Python 3 is passed over.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 .venv/lib || true

.DEFAULT_GOAL := help
.PHONY: help bench bench-gpu bench-peers dashboards train test test-quick test-gpu chaos prove-tools check lint types format docs settings-page commands-page clean

help:  ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "signs_dist needs Python 3.10 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 …"; exit 2; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "Python cannot make a virtual environment (on Debian: apt install python3-venv)."; exit 2; }
	@touch $@

.venv/installed: pyproject.toml | .venv/ready
	@echo "installing into .venv (PyTorch is large: this can take minutes)"
	@$(INSTALL) --editable .
	@$(COMPILE)
	@touch $@

.venv/installed-dev: pyproject.toml .venv/installed
	@echo "installing the development tools into .venv"
	@$(INSTALL) --editable '.[dev]'
	@$(COMPILE)
	@touch $@

# The dashboards want other versions of packages than users of signs_dist alone get, and fifty packages more: they have an
# environment of their own, which finds the packages of .venv behind its own.
.venv-dashboards/installed: pyproject.toml | .venv/installed-dev
	@echo "installing the dashboards into .venv-dashboards"
	@$(PYTHON) -m venv .venv-dashboards
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$(.venv-dashboards/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_of_venv.pth"
	@.venv-dashboards/bin/python -m pip install --quiet --disable-pip-version-check --editable \
	  '.[tensorboard,wandb,mlflow,trackio]'
	@touch $@

# The site is made in an environment of its own, which finds signs_dist and torch in .venv: it shows their docstrings.
.venv-docs/installed: pyproject.toml | .venv/installed
	@echo "installing what makes the site into .venv-docs"
	@$(PYTHON) -m venv .venv-docs
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$(.venv-docs/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_of_venv.pth"
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# The programs that benchmarks compare with have an environment of their own, which finds the packages of .venv behind it.
.venv-bench/installed: pyproject.toml benchmarks/requirements.txt | .venv/installed-dev
	@echo "installing the programs that benchmarks compare with into .venv-bench"
	@$(PYTHON) -m venv .venv-bench
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_of_venv.pth"
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r benchmarks/requirements.txt
	@touch $@

train: .venv/installed  ## install, draw a data set if there are no photos, train, evaluate (settings: ARGS="optim.lr=0.05")
	@$(BIN)/python -m signs_dist.train $(ARGS)

test: .venv/installed-dev .venv-dashboards/installed .venv-docs/installed  ## install what tests need, and run them all
	@$(PYTEST) $(ARGS)

test-quick: .venv/installed-dev  ## run the tests that are not marked slow
	@$(PYTEST) -m 'not slow' $(ARGS)

test-gpu: .venv/installed-dev  ## run the tests that need a GPU; all others hide it from themselves
	@$(BIN)/python -m pytest -m gpu $(ARGS)

prove-tools: .venv/installed-dev  ## run the tests marked `longer`: the counts behind prove, replay, diverge and recomputing
	@$(PYTEST) -m longer $(ARGS)

chaos: .venv/installed  ## kill runs a hundred times, and compare (15 minutes; settings: ARGS="data.root=PHOTOS")
	@$(BIN)/python -m signs_dist.drill --world-size 2 --kills 100 --runs 10 train.epochs=6 $(ARGS)

check: lint types test  ## run lint, types and test

lint: .venv/installed-dev  ## check rules and format with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/installed-dev  ## check types with mypy, strict
	@$(BIN)/mypy

format: .venv/installed-dev  ## format the code as lint wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv-bench/installed  ## measure this machine: the benchmarks that end within three minutes each (ARGS="--data PHOTOS")
	@.venv-bench/bin/python benchmarks/short_tier.py $(ARGS)

bench-peers: .venv-bench/installed  ## compare whole commands with the tutorial's loop, accelerate, Lightning: ARGS="--data PHOTOS"
	@.venv-bench/bin/python benchmarks/whole_commands.py $(ARGS)

bench-gpu: .venv/installed-dev  ## check and measure one GPU, in under ten minutes (ARGS="--data PHOTOS --json FILE")
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

dashboards: .venv-dashboards/installed  ## install TensorBoard, wandb, MLflow and Trackio, for their tests

docs: .venv-docs/installed  ## make the site of all pages in build/site, and check its links; a warning is an error
	@.venv-docs/bin/python -m website.build build/site

settings-page: .venv/installed  ## write docs/settings.md again, from the docstrings of the settings
	@$(BIN)/python -m signs_dist.config.settings_page > docs/settings.md

commands-page: .venv/installed  ## write docs/commands.md again, from the parsers of the commands
	@$(BIN)/python -m website.commands_page > docs/commands.md

clean:  ## remove the environment and caches, and keep data/ and runs/
	rm -rf .venv .venv-bench .venv-dashboards .venv-docs .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
