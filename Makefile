# Two commands: `make run` and `make test`. Both make .venv first, when it is missing or stale.

PYTHON ?= python3
VENV := .venv
# The stages are started as `python -m ...`; with the environment first on PATH, that is the same
# interpreter as in a shell where it is activated.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
READY := $(VENV)/.ready

.PHONY: run test lint docs lock clean

run: $(READY)
	@dvc repro --quiet
	@headstart scores

test: $(READY) lint
	pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	ruff format --check .
	ruff check .
	mypy
	lint-imports

$(READY): requirements.lock pyproject.toml hatch_build.py headstart/images/resample.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headstart needs Python 3.11 or newer, this is %s; name another: make PYTHON=python3.12" % sys.version.split()[0])'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (once; some minutes on a slow line) ..."
	@python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements.lock)
	@# uv takes seconds where pip takes minutes, but does not read pip's configuration of indexes.
	@# Compiled now, since where PYTHONDONTWRITEBYTECODE is set each start would compile TensorFlow again.
	@uv pip install --quiet --compile-bytecode --requirement requirements.lock || python -m pip install --quiet --requirement requirements.lock
	@python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@python -c 'from headstart.images import compiled; compiled.resample() or print("The compiled resize is not available (no C compiler, or a processor without AVX2): Pillow resizes the images, to the same pixels more slowly.")'
	@touch $@

docs: $(READY)
	@python -m docs.make html && echo "docs/_build/index.html"

lock:
	uv pip compile --universal --python-version 3.11 --extra dev --extra compare --extra docs --extra export --extra hub --extra ray --extra s3 --no-header --no-annotate --no-emit-package headstart pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV)
