# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
OBJECTS := $(patsubst bpf/%.c,xdpprobe/data/%.o,$(wildcard bpf/*.bpf.c))
HEADERS := $(wildcard bpf/*.h)

##@ Use

.PHONY: demo
demo: setup ## See it work without hardware (root): FOR=seconds, JSON=1 for the report alone
	@$(BIN)/xdpprobe demo $(if $(FOR),--for $(FOR)) $(if $(JSON),--json)

.PHONY: setup
setup: $(OBJECTS) ## Install what is missing (root the first time) and build: BROWSER=1 for its test

.PHONY: wheel
wheel: setup ## Build dist/xdpprobe-*.whl, which needs no compiler where it is installed
	@rm -rf build # what an earlier build left there would get into the wheel
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . >&2
	@ls dist/*.whl

##@ Develop

.PHONY: test
test: setup ## Lint, types and all tests (root, or some are left out and named)
	@tools/test.sh

.PHONY: fuzz
fuzz: setup ## Damaged packets, flows and files (root): MINUTES=10, SEED=n, CORPUS=DIR, JSON=FILE
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) \
		$(if $(CORPUS),--corpus $(CORPUS)) $(if $(JSON),--json $(JSON))

.PHONY: vm-test
vm-test: setup ## Other kernels, in guests (root; 20 to 30 minutes): KERNEL=6.12, SUITE=bpf
	@vm-test/setup.sh $(KERNEL)
	@$(BIN)/python vm-test/run.py $(addprefix --kernel ,$(KERNEL)) $(addprefix --suite ,$(SUITE))

.PHONY: lint
lint: setup ## Style and types of Python and C
	@tools/lint.sh

.PHONY: fmt
fmt: setup ## Bring Python and C into the project's style
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@clang-format -i bpf/*.h bpf/*.c

.PHONY: docs
docs: setup ## Write docs/reference.md from the commands' help texts
	@$(BIN)/python tools/reference.py

.PHONY: picture
picture: setup ## Draw docs/top.svg anew: the view on the demo's traffic (root)
	@$(BIN)/python tools/picture.py

.PHONY: bench
bench: setup ## Measure docs/performance.* anew (root; 10 minutes): ONLY=part, CONTINUE=1, QUICK=1
	@tools/bench_setup.sh
	@$(BIN)/python tools/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(CONTINUE),--continue) \
		$(if $(QUICK),--quick)

.PHONY: bpf
bpf: $(OBJECTS) ## Build the data plane's objects

.PHONY: clean
clean: ## Remove what was built; .venv stays
	@rm -rf build dist .setup *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(OBJECTS)
	@find xdpprobe tests tools -name __pycache__ -type d -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Checks every time, and changes only what is missing; so nothing depends on its date.
.PHONY: tools-installed
tools-installed:
	@tools/setup.sh

xdpprobe/data/%.bpf.o: bpf/%.bpf.c $(HEADERS) tools/build.sh | tools-installed
	@echo "setup: building $@" >&2
	@tools/build.sh $@
