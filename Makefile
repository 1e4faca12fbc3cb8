# Two commands on a fresh machine: make train, make test. Each sets everything up by itself.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/first
WHEELS ?= dist
WORKERS ?= auto
KILLS ?= 20
BIN = $(VENV)/bin
# Alone: importing torch._dynamo crashes in a process that has run TensorFlow.
TRANSFORMERS = tests/weights/writers/test_transformers_folder.py
BUILT = pyproject.toml setup.py $(wildcard src/forebear/network/kernels/*.[ch])

.PHONY: train test check faults docs docs-links peers wheel try-wheel clean

train: $(VENV)/ready
	$(BIN)/forebear train --data digits --network paper/resnet20 --out $(OUT) --replace

test: $(VENV)/ready
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

# What may go wrong in a run, each in processes of their own: a table of tests/faults.
faults: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" scripts/faults --numprocesses $(WORKERS) --kills $(KILLS)

check: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

# The pages of docs/ into build/docs. A warning fails it, a broken link inside the pages too.
docs: $(VENV)/ready-docs
	$(BIN)/python -m sphinx --builder html --doctree-dir build/doctrees --fail-on-warning \
		--nitpicky --quiet docs build/docs
	@echo "open build/docs/index.html"

# Links to other sites, which need the network; CI has none.
docs-links: $(VENV)/ready-docs
	$(BIN)/python -m sphinx --builder linkcheck --doctree-dir build/doctrees --quiet \
		docs build/linkcheck

# The real TensorFlow, Keras and TF-Slim, in an environment of their own.
peers:
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-peers/bin/python -m pip install --quiet --editable '.[peers,datasets]'
	$(VENV)-peers/bin/python -m pytest -m "peer or slow" -s tests/peers tests/weights \
		--ignore=$(TRANSFORMERS)
	$(VENV)-peers/bin/python -m pytest -m "peer or slow" -s $(TRANSFORMERS)
	$(VENV)-peers/bin/python -m pytest tests/data/sources/test_hugging_face.py

# One wheel for every Python 3 and every processor of this machine's architecture.
wheel: $(VENV)/ready
	rm -rf build $(WHEELS)/forebear-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir $(WHEELS) build/wheel/*.whl
	ls -l $(WHEELS)

# Installs that wheel into an empty environment, and trains there without a compiler.
try-wheel: wheel
	scripts/try-wheel $(WHEELS)

$(VENV)/ready: $(BUILT) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/ready-docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'forebear[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info src/forebear/network/kernels/libforebear.*
