# Lepton's front door. `make` alone lists what it can do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
MODEL ?= smollm2-135m-instruct
HOST ?= 127.0.0.1
PORT ?= 8000
TESTS ?= tests
FUZZ_SECONDS ?= 60
BENCH ?=
SOAK_SECONDS ?= 1200

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --constraint constraints.txt
# With the tools in the virtual environment, a second build compiles only what changed.
BUILD_TOOLS := scikit-build-core nanobind cmake ninja

NATIVE := $(shell find src/lepton/kernels/native -name '*.cpp' -o -name '*.h' -o -name '*.inl')
SOURCES := $(shell find src -type f -not -path '*/__pycache__/*' -not -name '*.so') \
           $(wildcard CMakeLists.txt README.md LICENSE)

# Stamps say what the virtual environment holds; each is older than what it must follow.
STAMPS := $(VENV)/.stamps
TOOLS := $(STAMPS)/tools
SERVE := $(STAMPS)/serve
DEVELOP := $(STAMPS)/develop
PACKAGE := $(STAMPS)/package

.PHONY: help serve install develop test test-native test-isas test-neon sanitize check format bench \
        fuzz soak wheel lock clean

help: ## List these targets
	@echo "make TARGET [VARIABLE=value]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: MODEL=$(MODEL) HOST=$(HOST) PORT=$(PORT) TESTS=$(TESTS) PYTHON=$(PYTHON)"

serve: install ## Install, fetch the model and serve it: MODEL, HOST, PORT
	@exec $(BIN)/lepton serve $(MODEL) --host $(HOST) --port $(PORT) --pull

install: $(SERVE) $(PACKAGE) ## Install Lepton into .venv

develop: $(DEVELOP) $(PACKAGE) ## Install Lepton with everything that tests and checks need

test: develop ## Run the tests: TESTS=tests/engine for a part
	$(BIN)/python -m pytest $(TESTS)

# $(call build_native_tests,FOLDER,OPTIONS) builds the core's own tests in build/FOLDER.
define build_native_tests
@PATH=$(abspath $(BIN)):$$PATH; \
  cmake -G Ninja -S . -B build/$(1) --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
    -DLEPTON_NATIVE_TESTS=ON $(2); \
  cmake --build build/$(1) -- --quiet
endef
NATIVE_TESTS := tests/native/lepton_native_tests
AARCH64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
           -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
ON_AARCH64 := qemu-aarch64-static -L /usr/aarch64-linux-gnu

test-native: $(TOOLS) ## Run the core's own tests
	@scripts/need.sh doctest-dev
	$(call build_native_tests,native)
	build/native/$(NATIVE_TESTS)

test-isas: develop ## Run the kernel tests on every instruction set, emulated where there is no other way
	scripts/test_isas.sh $(BIN)/python

test-neon: $(TOOLS) ## Run the core's own tests on an emulated ARM
	@scripts/need.sh doctest-dev g++-aarch64-linux-gnu qemu-user-static
	$(call build_native_tests,neon,$(AARCH64))
	$(ON_AARCH64) -E LEPTON_ISA=neon build/neon/$(NATIVE_TESTS)
	@echo "Without dot products the portable kernels run:"
	$(ON_AARCH64) -cpu cortex-a53 build/neon/$(NATIVE_TESTS) --test-case='logits do not depend*'

sanitize: $(TOOLS) ## Run the core's own tests under the address, undefined and thread sanitizers
	@scripts/need.sh doctest-dev
	$(call build_native_tests,address,-DLEPTON_SANITIZE=address)
	build/address/$(NATIVE_TESTS)
	$(call build_native_tests,thread,-DLEPTON_SANITIZE=thread)
	TSAN_OPTIONS=die_after_fork=0 build/thread/$(NATIVE_TESTS)

check: develop ## Lint, format, types, C++ format, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(NATIVE),$(BIN)/clang-format --dry-run -Werror $(NATIVE))
	PYTHONPATH=src $(BIN)/lint-imports

format: develop ## Format Python and C++
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(if $(NATIVE),$(BIN)/clang-format -i $(NATIVE))

bench: develop ## Measure beside other engines, hours, and write docs/performance.md: BENCH=--quick
	$(INSTALL) 'accelerate>=1.0'
	$(BIN)/python -m bench all $(BENCH)

fuzz: develop ## Feed damaged model files to the readers: FUZZ_SECONDS
	$(INSTALL) 'atheris>=2.3'
	for target in tests/fuzz/fuzz_*.py; do \
	  $(BIN)/python "$$target" -max_total_time=$(FUZZ_SECONDS); done

soak: develop ## Twenty minutes of random requests, cancels and slow readers: SOAK_SECONDS
	LEPTON_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/server/test_soak.py

wheel: $(TOOLS) ## Build one wheel with every instruction set into dist/
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls -l dist/*.whl

lock: $(TOOLS) ## Resolve the newest versions into constraints.txt
	$(PIP) install --quiet --dry-run --ignore-installed --no-build-isolation --report build/lock.json \
	  '.[serve,test,check,bench,fuzz]' $(BUILD_TOOLS) build pip
	$(BIN)/python scripts/lock.py < build/lock.json > constraints.txt

clean: ## Remove what was built, but not .venv nor downloaded models
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f $(PACKAGE)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lepton needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@PYTHON=$(PYTHON) scripts/need.sh g++ python3-venv python3-dev
	@$(PYTHON) -m venv $(VENV)

$(TOOLS): $(BIN)/python constraints.txt
	@mkdir -p $(STAMPS) build
	@echo "Installing build tools into $(VENV)"
	@$(INSTALL) --upgrade pip
	@$(INSTALL) $(BUILD_TOOLS)
	@touch $@

# The package comes along here only so that pip reads the extras from pyproject.toml.
$(SERVE): $(TOOLS) pyproject.toml
	@echo "Building Lepton and installing what it needs"
	@$(INSTALL) --no-build-isolation '.[serve]'
	@touch $@ $(PACKAGE)

$(DEVELOP): $(TOOLS) pyproject.toml
	@echo "Building Lepton and installing what its tests need"
	@$(INSTALL) --no-build-isolation '.[serve,test,check]'
	@touch $@ $(SERVE) $(PACKAGE)

# A changed source is built and installed again before anything runs.
$(PACKAGE): $(TOOLS) $(SOURCES) pyproject.toml | $(SERVE)
	@echo "Refreshing Lepton in $(VENV)"
	@$(INSTALL) --no-build-isolation --no-deps --force-reinstall .
	@touch $@
