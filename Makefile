# The commands of a checkout. Each installs first what it misses; scripts/setup does that.
.DEFAULT_GOAL := help
.PHONY: help run test test-reference test-faults check lint docs bench rootfs setup clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
MAKEFLAGS += --no-print-directory

# Namespaces, mounts and cgroups are root's.
ifneq ($(shell id -u),0)
SUDO := sudo
endif
MINICONTAINER := $(SUDO) .venv/bin/minicontainer

# CMD reaches the shell as it was typed: make shall not look for its own variables in it.
export TYPED_CMD := $(value CMD)
unexport CMD

help: ## Show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

run: setup rootfs ## Open a shell in a container; with CMD='…', run that and nothing else
	@$(say_sudo)
	if [ -n "$$TYPED_CMD" ]; then
		exec $(MINICONTAINER) run --rm busybox /bin/sh -c "$$TYPED_CMD"
	fi
	if [ -t 0 ]; then terminal=-t; else
		echo 'make run: no terminal here: the shell reads its commands from standard input' >&2
		terminal=
	fi
	# What the last command in the shell came to is no failure; that there was no container is.
	$(MINICONTAINER) run --rm -i $$terminal busybox /bin/sh || [ $$? != 125 ]

# What these need is more than what running needs.
test test-reference test-faults lint docs bench: WITH := --tests

test: rootfs ## Run every test that can run on this machine; ARGS='…' goes to pytest
	@$(say_sudo)
	$(give_back)
	$(SUDO) env MINICONTAINER_REQUIRE="$${MINICONTAINER_REQUIRE-}" \
		MINICONTAINER_SPECS="$${MINICONTAINER_SPECS-}" .venv/bin/python -m pytest $(ARGS)

# Where the reference lies: a Debian sid with Docker, of 500 MB.
export MINICONTAINER_REFERENCE ?= /var/cache/minicontainer-tests/dockerd

test-reference: rootfs ## Run the tests of clients on Docker's newest engine too; the first call fetches it
	@$(say_sudo)
	$(give_back)
	$(SUDO) rootfs/dockerd "$$MINICONTAINER_REFERENCE"
	$(SUDO) env MINICONTAINER_REFERENCE="$$MINICONTAINER_REFERENCE" .venv/bin/python -m pytest \
		tests/client --engine dockerd28 --engine minicontainer $(ARGS)

test-faults: rootfs ## Kill each process at each place of each operation; it takes an hour
	@$(say_sudo)
	$(give_back)
	$(SUDO) env MINICONTAINER_ALL_FAULTS=1 .venv/bin/python -m pytest tests/engine/test_faults.py $(ARGS)

check: setup ## Tell what this machine offers to containers, and how to get what is missing
	@$(MINICONTAINER) check

lint: setup ## Run what checks the source alone: ruff, mypy, the house rules
	@.venv/bin/python -m pytest tests/repository/test_lint.py tests/test_house_rules.py

docs: setup ## Make anew what docs/ has from the program: tables, references, translations' texts, pictures
	@$(say_sudo)
	$(give_back)
	for page in cli_reference oci_reference step_tables constants; do .venv/bin/python -m "scripts.$$page"; done
	.venv/bin/python scripts/narration.py
	$(SUDO) .venv/bin/python -m scripts.pictures

bench: rootfs ## Measure starts and the engine, beside runc, crun, dockerd and Podman
	@$(say_sudo)
	$(give_back)
	for bench in tests/bench/bench_*.py; do $(SUDO) .venv/bin/python "$$bench"; done

rootfs: setup ## Build the default root filesystem, busybox
	@$(SUDO) rootfs/busybox

setup: ## Install what is missing on this machine, and make .venv
	@scripts/setup $(WITH)

clean: ## Remove what these commands made in the checkout
	@scripts/setup --remove
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# For an ordinary user: say who acts, and give back the caches that root's tests leave behind.
ifdef SUDO
say_sudo = echo 'make $@: not root: sudo starts it' >&2
give_back = trap '$(SUDO) chown -R --from=0 "$$(id -u):$$(id -g)" .' EXIT
endif
