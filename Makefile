.DEFAULT_GOAL := help
.PHONY: help setup fmt lint types test slow docs demo bench wheel constraints

RUN := uv run --quiet

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup:  ## Install everything into .venv, and the checks that run before a commit
	uv sync
	$(RUN) pre-commit install

fmt:  ## Format the code and repair what ruff can repair
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

lint:  ## Check style, format and the direction of imports
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports

types:  ## Check the types
	$(RUN) mypy

test:  ## Run the quick tests, about 6 minutes on two CPU cores
	$(RUN) pytest

slow:  ## Run the long tests, about 12 minutes on two CPU cores
	$(RUN) pytest -m slow

docs:  ## Check that every command and link of README and docs is valid
	$(RUN) pytest -n 0 tests/integration/test_docs.py

demo:  ## Train on phantom MRI and write a report, within two minutes on two CPU cores
	$(RUN) run.py

bench:  ## Measure the cost of surface distances beside a forward pass; benchmarks/ has more
	$(RUN) python benchmarks/surface_distance.py --images 200

wheel:  ## Build the package into dist/
	uv build --wheel

constraints:  ## Write constraints.txt: the versions of this environment, after the tests have passed
	uv pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' > constraints.txt
