# Two commands on a fresh machine: make train, make test. Each sets everything up by itself.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/first
BIN = $(VENV)/bin

.PHONY: train test check peers clean

train: $(VENV)/ready
	$(BIN)/forebear train --data digits --network paper/resnet20 --out $(OUT) --replace

test: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

# The real TensorFlow, Keras and TF-Slim, in an environment of their own.
peers:
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-peers/bin/python -m pip install --quiet --editable '.[peers]'
	$(VENV)-peers/bin/python -m pytest -m "peer or slow" -s tests/peers tests/weights

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
