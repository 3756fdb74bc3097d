# `make help` lists everything. `make train` on a fresh checkout sets itself up, trains, judges and tracks.
#
# Names with a small letter are configuration keys: `make train model=mlp trainer.max_epochs=5` hands them to
# the program exactly as they were typed. Names in capitals (PYTHON, VENV, ARGS, CUDA_VISIBLE_DEVICES) belong
# to make and to the environment. Works with GNU make 3.81, as on macOS, and later.

VENV ?= .venv

# Programs of the package, each run with the overrides typed after its name; and the work on the package.
VERBS   := train search evaluate diagnose report compare resume runs logs cancel register chaos ui sync new-data new-model
CHORES  := help setup test test-all coverage check bench clean distclean
TARGETS := $(VERBS) dashboard $(CHORES) ready-run ready-dev
.PHONY: $(TARGETS)
.DEFAULT_GOAL := help

# --- Overrides ---------------------------------------------------------------------------------------------
# They travel in environment variables that no shell reads and make does not expand again, so that no part of
# a value is ever executed. config/make_arguments.py undoes make's quoting.
FROM_COMMAND_LINE = $(filter command,$(firstword $(origin $1)))
export PIPELINE_MAKE_ARGUMENTS := $(MAKEOVERRIDES)
export PIPELINE_MAKE_DELETIONS := $(filter ~%,$(MAKECMDGOALS))
export PIPELINE_MAKE_ARGS := $(if $(call FROM_COMMAND_LINE,ARGS),$(value ARGS))

# make also exports each command-line variable by itself, and expands it for that: 'x=$(shell ...)' would run.
LETTERS := a b c d e f g h i j k l m n o p q r s t u v w x y z
HAS_SMALL_LETTER = $(strip $(foreach LETTER,$(LETTERS),$(findstring $(LETTER),$1)))
unexport ARGS
unexport $(foreach NAME,$(.VARIABLES),$(if $(call FROM_COMMAND_LINE,$(NAME)),$(if $(call HAS_SMALL_LETTER,$(NAME)),$(NAME))))

# A mistyped goal is refused before anything runs; '~key', an override that deletes, looks like a goal to make.
UNKNOWN := $(filter-out $(TARGETS) ~%,$(MAKECMDGOALS))
ifneq ($(strip $(UNKNOWN)),)
$(error There is no target "$(UNKNOWN)". `make help` lists them; an override is written key=value, and what \
make cannot take as an argument goes into ARGS="...")
endif
.DEFAULT:
	@:

# --- Programs ----------------------------------------------------------------------------------------------
train: ready-run     ## train, judge on the test set, track; as in: make train model=mlp trainer.max_epochs=5
search: ready-run    ## look for the best of several values: make search model=mlp,cnn
dashboard: ready-run ## a search in Optuna's own pages, if optuna-dashboard is installed: make dashboard name=X
evaluate: ready-run  ## the test figures again, from a run directory alone: make evaluate run=latest
diagnose: ready-run  ## what is wrong with a run, and what to try next: make diagnose run=latest
report: ready-run    ## one page about a run, made again from its directory: make report run=latest
compare: ready-run   ## several runs side by side, and whether one is better: make compare runs=a,b
resume: ready-run    ## go on where a run ended: make resume run=latest
runs: ready-run      ## the runs that there are
logs: ready-run      ## what a run records and logs: make logs run=latest ARGS=--follow
cancel: ready-run    ## ask a run to save and end: make cancel run=latest
chaos: ready-run     ## kill a training again and again, and see whether anything is lost: make chaos kills=50
ui: ready-run        ## MLflow's pages on this machine, opened at the right one
register: ready-run  ## a run's model under a name; the best is its champion: make register run=latest name=X
sync: ready-run      ## carry what was recorded offline to MLflow: make sync run=latest
new-data: ready-run  ## a data source of your own to start from, with its test: make new-data name=X kind=image
new-model: ready-run ## a network of your own to start from, with its test: make new-model name=X

$(VERBS):
	@exec "$(VENV)/bin/python" -m pipeline $@

dashboard:
	@exec "$(VENV)/bin/python" -m pipeline search dashboard

# --- Work on the package -----------------------------------------------------------------------------------
setup: ready-dev  ## only the set-up, with all that test and check need; PYTHON= and VENV= choose where

# One process a core; one that has no tests left takes some of another's.
IN_PARALLEL := -n auto --dist worksteal

test: ready-dev  ## the tests, offline, in minutes; ARGS="-k journal -x" goes to pytest
	@PYTEST_ADDOPTS="$(IN_PARALLEL) $$PYTEST_ADDOPTS $$PIPELINE_MAKE_ARGS" exec "$(VENV)/bin/python" -m pytest

test-all: ready-dev  ## these and the slow ones; those of SLURM and of a browser where they are installed
	@PYTEST_ADDOPTS="$(IN_PARALLEL) -m '' $$PYTEST_ADDOPTS $$PIPELINE_MAKE_ARGS" exec "$(VENV)/bin/python" -m pytest

coverage: ready-dev  ## the lines and branches of src that the tests take, in the programs that they start, too
	@rm -f .coverage .coverage.*; STATUS=0; \
	PYTEST_ADDOPTS="$(IN_PARALLEL) $$PYTEST_ADDOPTS $$PIPELINE_MAKE_ARGS" \
	"$(VENV)/bin/python" -m coverage run -m pytest || STATUS=1; \
	"$(VENV)/bin/python" -m coverage combine -q && "$(VENV)/bin/python" -m coverage report || STATUS=1; \
	exit $$STATUS

check: ready-dev  ## layout and style (ruff), types (mypy), who may import whom (import-linter)
	@STATUS=0; \
	"$(VENV)/bin/python" -m ruff format --check . || STATUS=1; \
	"$(VENV)/bin/python" -m ruff check . || STATUS=1; \
	"$(VENV)/bin/python" -m mypy || STATUS=1; \
	"$(VENV)/bin/python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' || STATUS=1; \
	exit $$STATUS

# What make carries is taken out here, or the programs that are measured would take it for theirs.
bench: ready-dev  ## the figures of the README against their baselines, both sides measured in one run; ARGS="--long"
	@exec "$(VENV)/bin/python" -c 'import os, runpy, sys; \
	from pipeline.config.make_arguments import decode_make_arguments; \
	sys.argv[1:] = decode_make_arguments(os.environ); runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)'

clean:  ## remove caches and built packages; runs stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the virtual environment, too
	@[ ! -e "$(VENV)/pyvenv.cfg" ] || rm -rf "$(VENV)"

help:  ## this list
	@echo 'Targets'
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' Makefile | while read -r TARGET WHAT; do printf '  %-16s%s\n' "$$TARGET" "$$WHAT"; done
	@echo; echo 'Configuration groups, as in: make train model=mlp (* the default; make train ARGS=--info describes them)'
	@for GROUP in conf/*/; do \
		GROUP=$$(basename "$$GROUP"); \
		DEFAULT=$$(sed -n "s/^  - $$GROUP: *\([^ #]*\).*/\1/p" conf/train.yaml); \
		OPTIONS=$$(ls "conf/$$GROUP" | sed -n 's/^\([^_].*\)\.yaml$$/\1/p' | sed "s/^$$DEFAULT$$/&*/"); \
		printf '  %-16s%s\n' "$$GROUP" "$$(echo $$OPTIONS)"; \
	done
	@echo; echo 'make ends with 2 after any failure. The program itself, $(VENV)/bin/pipeline train ..., tells them apart:'
	@echo '0 done, 1 a failure, 2 a mistake in what was typed, 130 Ctrl-C.'

# --- Set-up ------------------------------------------------------------------------------------------------
# Done when its stamp is younger than what it depends on and names this folder (a moved or copied checkout
# would go on importing from the old one). Files in a rule could not do this where a path holds a space.
ready-run ready-dev:
	@STAMP="$(VENV)/.$@"; \
	if [ -x "$(VENV)/bin/python" ] && [ -e "$$STAMP" ] && [ "$$(cat "$$STAMP")" = "$$(pwd -P)" ] \
		&& [ -z "$$(find pyproject.toml constraints -newer "$$STAMP")" ]; then exit 0; fi; \
	set -- $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python3.14); \
	for CANDIDATE in "$$@"; do \
		if "$$CANDIDATE" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			exec "$$CANDIDATE" tools/set_up.py "$(VENV)" $(subst ready-,,$@); fi; \
	done; \
	echo "Python 3.11 or newer is needed; found: $$("$$1" --version 2>&1 | head -n 1). Install one (Debian, Ubuntu:" >&2; \
	echo "apt install python3 python3-venv; macOS: brew install python) or name one: make setup PYTHON=/path/to/python3" >&2; \
	exit 1
