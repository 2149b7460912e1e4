# `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup check test test-full bench lock package zip clean
PYTHON := .venv/bin/python

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv, once: packages, Horovod, Java, the Delta jars
	@scripts/bootstrap.sh

check: setup  ## lint, format, types, consistent packages, hooks: all that CI checks without running anything
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTHON) -m pip check
	.venv/bin/pre-commit validate-config

test: check  ## check, and the tests
	$(PYTHON) -m pytest -m "not full"

test-full: check  ## check, and all tests: whole grids, every fault, every data set, the packed environment
	$(PYTHON) -m pytest

bench: setup  ## one benchmark (NAME=night), or all; exits 1 where a bound does not hold
	$(PYTHON) -m bench $(NAME)

lock:  ## compile requirements/*.in into lock files with hashes
	scripts/lock.sh

package:  ## dist/: what a cluster needs
	scripts/package.sh

zip: setup  ## build/millrace.zip
	@$(PYTHON) scripts/build_zip.py

clean:  ## remove what was built (build, dist, caches); .venv and lakes stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis lib/*.egg-info
	find lib jobs bench tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
