# Everything a first look and a contribution need. Only Python 3.11 or later, make and a package
# index have to be there; `make setup PYTHON=...` names another Python than the first one found.

BIN := .venv/bin
STAMP := .venv/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench schema lock

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with exactly the locked dependencies

$(STAMP): requirements.lock pyproject.toml ops/setup
	@PYTHON="$(PYTHON)" ops/setup
	@touch $@

demo: $(STAMP) ## Run the whole system: transcode real video and watch it finish
	@$(BIN)/ffrtmp demo

check: $(STAMP) ## Format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

test: check ## Everything that must pass: the checks, then all tests
	$(BIN)/pytest

bench: $(STAMP) ## Measure; results go to ops/bench/results
	$(BIN)/python -m tests.bench

schema: $(STAMP) ## Write the schemas and the event reference anew
	$(BIN)/python -m events.schema

lock: $(STAMP) ## Resolve requirements.lock anew
	$(BIN)/uv pip compile --universal --generate-hashes --no-annotate --no-header --group dev \
		pyproject.toml -o requirements.lock
