# Aliases of ./bigworld commands.
.DEFAULT_GOAL := help
.PHONY: help run test test-all check bench docs format

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: ## Run the whole network on this machine
	./bigworld up

test: ## Run the tests
	./bigworld test

test-all: ## Run the tests with the long fault and load plans
	./bigworld test --long

check: ## Lint, format, types, layers, migrations
	./bigworld check

bench: ## Run the benchmarks
	./bigworld bench

docs: ## Write the generated pages of docs/reference, and the clients
	PYTHONPATH=tests/mutants .venv/bin/python tests/architecture/reference_pages.py
	.venv/bin/python -m clients.generator

format: ## Format the code and apply the linter's safe fixes
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
