# The front door of Penstock. `make` alone says what there is.
#
# Everything works on a machine with Python 3.11+, make and a package registry. The environment lives in .venv
# and is put together from the lock files; a stamp in it makes a set-up tree start at once.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
WORKERS ?= 2
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --override tools/overrides.txt \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

# A virtual environment that was copied from elsewhere does not work here: its stamps count for nothing.
ifneq ($(shell cat .venv/.place 2>/dev/null; test -x $(BIN)/python || echo gone),$(CURDIR))
.PHONY: .venv/.ready-runtime .venv/.ready-dev
endif

.venv/.ready-runtime: requirements.lock pyproject.toml tools/set_up.sh
	@tools/set_up.sh runtime

.venv/.ready-dev: requirements-dev.lock pyproject.toml tools/set_up.sh tests/support/oidc/package-lock.json
	@tools/set_up.sh dev

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: up
up: .venv/.ready-runtime ## Start the whole factory in the foreground; Ctrl-C stops it (ARGS="--help" lists options)
	@exec $(BIN)/penstock up $(ARGS)

.PHONY: setup
setup: .venv/.ready-dev ## Put the environment into .venv, development tools included
	@:

.PHONY: guest-image
guest-image: .venv/.ready-dev ## Build the tiny guest that tests of machines start, unless it is built
	@$(BIN)/python -m tests.support.guest_image

.PHONY: test
test: .venv/.ready-dev guest-image ## Run all tests (ARGS="-k name" narrows them, WORKERS=8 for a bigger machine)
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

.PHONY: test-unit
test-unit: .venv/.ready-dev ## Run only the quick tests of single units
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder tests/unit $(ARGS)

.PHONY: test-vm
test-vm: .venv/.ready-dev guest-image ## Run only the tests that start real machines with libvirt and QEMU
	@exec $(BIN)/pytest -m vm $(ARGS)

.PHONY: test-net
test-net: .venv/.ready-dev ## Run only the tests of networks with real packets (as root)
	@exec $(BIN)/pytest tests/network $(ARGS)

.PHONY: test-browser
test-browser: .venv/.ready-dev ## Run only the tests that look at the console in a real Chromium
	@exec $(BIN)/pytest tests/browser $(ARGS)

.PHONY: screenshots
screenshots: .venv/.ready-dev ## Take a picture of every page of the console, light, dark and phone (FOLDER=build/screenshots)
	@SCREENSHOTS=$(abspath $(or $(FOLDER),build/screenshots)) $(BIN)/pytest -q tests/browser/test_pages.py -k every_page $(ARGS)
	@echo "the pictures are in $(or $(FOLDER),build/screenshots)"

.PHONY: check
check: format lint types imports habits ## Format, lint, types, imports, habits

.PHONY: format
format: .venv/.ready-dev
	@$(BIN)/ruff format --check .

.PHONY: lint
lint: .venv/.ready-dev
	@$(BIN)/ruff check .

.PHONY: types
types: .venv/.ready-dev
	@$(BIN)/pyright

.PHONY: imports
imports: .venv/.ready-dev
	@$(BIN)/lint-imports --no-logo

.PHONY: habits
habits: .venv/.ready-dev
	@$(BIN)/pytest -q tests/habits

.PHONY: fix
fix: .venv/.ready-dev ## Format the code and repair what lint can repair by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: .venv/.ready-dev ## Measure every figure the README quotes (SAVE=1 keeps them in bench/figures.json, ONLY=name runs one)
	@exec $(BIN)/python -m bench.run $(if $(SAVE),--save) $(if $(ONLY),--only $(ONLY)) $(ARGS)

.PHONY: bench-gateway
bench-gateway: .venv/.ready-dev ## Measure what the gateway costs beside nginx and LiteLLM, what bad clients cost, routing and cold starts (SAVE=1 keeps them; LITELLM=path of its command)
	@for name in gateway bad_clients routing cold_start; do \
		BENCH_LITELLM="$(LITELLM)" $(BIN)/python -m bench.run $(if $(SAVE),--save) --only $$name || exit 1; done

.PHONY: bench-rag
bench-rag: .venv/.ready-dev ## Measure knowledge bases alone: what they find, and how fast with 100,000 chunks
	@exec $(BIN)/python -m bench.run --only rag $(if $(SAVE),--save) $(ARGS)

.PHONY: reference
reference: .venv/.ready-dev ## Write the generated pages of docs/reference again
	@$(BIN)/python -m tools.reference

.PHONY: openapi
openapi: .venv/.ready-dev ## Write docs/reference/openapi.json again
	@$(BIN)/python -m penstock.api.openapi

.PHONY: lock
lock: .venv/.ready-dev ## Resolve the dependencies anew into the lock files (ARGS="--upgrade" takes the newest)
	@$(COMPILE) $(ARGS) pyproject.toml --group house -o requirements.lock
	@$(COMPILE) $(ARGS) -c requirements.lock pyproject.toml --group house --group dev -o requirements-dev.lock

.PHONY: clean
clean: ## Remove the environment and every cache; no data of a running factory
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
