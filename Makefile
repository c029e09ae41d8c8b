# make demo: set up, then run the main job.  make test: set up, then run every test but the slow ones.
# Each step of the set-up leaves a stamp, so that a second run does no work again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
CORE := $(wildcard ukfilter/tender/core/*.[ch] ukfilter/fs/shim/*.[ch]) ukfilter/tender/core/build_core.py ukfilter/fs/shim/build_shim.py
PYTHON_FILES := $(shell find ukfilter -name '*.py')
C_FILES := bin/launcher.c $(wildcard ukfilter/tender/core/*.[ch] ukfilter/fs/shim/*.[ch] examples/*.c examples/lib/*.[ch] tests/guests/*.[ch] tests/tenders/*.c)

.PHONY: setup demo test test-all lint bench images clean

setup: $(STAMPS)/system $(STAMPS)/core $(STAMPS)/compiled images

$(STAMPS)/system: scripts/system-packages
	scripts/system-packages $(PYTHON)
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/venv: pyproject.toml $(STAMPS)/system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=68' wheel 'cffi>=1.16'
	$(BIN)/python -m pip install -q --disable-pip-version-check 'pyfuse3>=3.5'
	touch $@

$(STAMPS)/core: $(STAMPS)/venv setup.py bin/launcher.c $(CORE)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --config-settings editable_mode=compat -e '.[dev,fuse]'
	mkdir -p $(VENV)/share/man/man1 $(VENV)/share/man/man7
	ln -sf $(CURDIR)/man/*.1 $(VENV)/share/man/man1/
	ln -sf $(CURDIR)/man/*.7 $(VENV)/share/man/man7/
	touch $@

# Python's own cache of compiled modules, also where the environment keeps it from writing one.
$(STAMPS)/compiled: $(STAMPS)/core $(PYTHON_FILES)
	$(BIN)/python -m compileall -q ukfilter
	touch $@

images: | $(STAMPS)/system
	@$(MAKE) -s -C examples
	@$(MAKE) -s -C tests/guests

demo: setup
	@BIN=$(BIN) scripts/demo README.md

lint: setup
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

test: lint
	$(BIN)/pytest -n 4 -m 'not slow'

test-all: lint
	$(BIN)/pytest -n 4

bench: setup
	$(BIN)/python bench/spawn.py
	$(BIN)/python bench/mount.py
	$(BIN)/python bench/report.py

clean:
	rm -rf $(VENV) build *.egg-info ukfilter/tender/_core.* ukfilter/fs/_shim.* examples/build tests/guests/build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
