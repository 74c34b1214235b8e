# Tintype's commands. `make help` lists them; CONTRIBUTING.md says when to use which.
#   PYTHON=…       interpreter that .venv is made of (default: the newest of 3.11 to 3.13, else python3)
#   PYTEST_ARGS=…  added to every pytest command, e.g. PYTEST_ARGS="-k upload"
#   WORKERS=…      how many processes `make test` runs tests in (default: 0, one after the other)

.DEFAULT_GOAL := help
SHELL := /bin/bash

WORKERS ?= 0
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest $(PYTEST_ARGS)
RELEASED := protos/released.binpb

.PHONY: help install system-packages fmt style typecheck lint unit contract integration e2e faults test test-containers \
	protos check-protos release-protos fuzz bench bench-stores docs docs-site demo images up down logs lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Make .venv with everything in it; quick when up to date
	@tools/install

system-packages: ## Install the programs that no Python package carries, those of the tests included
	@tools/install-system-packages runtime postgresql keys mounts swift ceph formats monitoring router

fmt: install ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

style: install ## Check style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: install ## Check types (mypy, strict)
	$(BIN)/mypy

lint: style typecheck check-protos ## Check everything that can be checked without running it

unit: install ## Test the rules, in memory
	$(PYTEST) tests/unit tests/packaging

contract: install system-packages ## Test every adapter against its port's suite
	$(PYTEST) tests/contract

integration: install system-packages ## Test single services against a real log and real databases
	$(PYTEST) tests/integration

e2e: install system-packages ## Test the whole stack, killing parts of it
	$(PYTEST) tests/e2e

faults: install system-packages ## Break every store in every way, and draw the table of docs/reliability.md
	$(PYTEST) tests/faults --draw-faults

# What kills parts of a stack is one group, which one worker runs in order (tests/e2e/conftest.py).
test: system-packages lint ## Check everything, then run every test
	$(PYTEST) --numprocesses $(WORKERS) --dist loadgroup

# Images are built in the time of the first test that needs them.
test-containers: install ## Build the images, run them all in containers, and test that (needs Docker, or root and Debian)
	$(PYTEST) -o timeout=1200 tests/containers

protos: install ## Generate tintype/api from protos/
	$(BIN)/python tools/generate_protos.py

check-protos: install ## Check that tintype/api is what protos/ generates, and that released messages stay readable
	$(BIN)/python tools/generate_protos.py --check
	$(BIN)/buf lint
	@if [ -e $(RELEASED) ]; then set -x; $(BIN)/buf breaking --against $(RELEASED); \
	else echo "no $(RELEASED): nothing is released yet, so nothing can break"; fi

release-protos: check-protos ## Record today's protos as released: later changes must stay compatible with them
	$(BIN)/buf build --exclude-source-info --output $(RELEASED)

fuzz: install ## Fuzz every parser of hostile bytes, FUZZ_ARGS="--seconds 300" each
	@# Not among the development tools: its wheels lag behind new versions of Python.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3.0'
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

bench: install system-packages ## Measure side by side with cp, curl and qemu-img
	$(BIN)/python -m benchmarks

bench-stores: install system-packages ## Measure stores against their systems' own programs, BENCH_ARGS="--size-mib 4096"
	$(BIN)/python -m benchmarks stores --write $(BENCH_ARGS)

docs: install ## Draw the generated parts of docs/ and deploy/ anew
	$(BIN)/python tools/generate_docs.py
	$(BIN)/python tools/generate_prometheus_rule.py
	$(BIN)/python -m tools.draw_dashboard

docs-site: install ## Build the documentation as a site, build/site, and check every link within it
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build

demo: install ## Show the road of an image, end to end, on this machine
	@tools/install-system-packages runtime
	$(BIN)/python tools/demo.py

images: install ## Build the container images from this tree
	$(BIN)/python -m tools.deployment images

up: images ## Build and start everything in containers, one endpoint in front (docs/operations.md)
	$(BIN)/python -m tools.deployment up

down: install ## Stop and remove the containers; PURGE=1 removes data and secrets too
	$(BIN)/python -m tools.deployment down

logs: install ## Follow the logs of the containers
	$(BIN)/python -m tools.deployment compose logs --follow --tail 100

lock: ## Write requirements.lock anew, with the newest versions that pyproject.toml allows
	@tools/lock-requirements

clean: ## Remove .venv and everything else that these commands made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
