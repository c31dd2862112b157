# Both targets work on a fresh machine with python3: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: mnist hunchback test others lint types docs format clean

mnist: $(VENV)/experiments.stamp  ## train the MNIST network of Ansuini et al. (2019) with the callback
	$(BIN)/lightning-id fit --config configs/mnist.yaml

hunchback: $(VENV)/experiments.stamp  ## train a small VGG on Fashion-MNIST, whose profile is a hunchback
	$(BIN)/lightning-id fit --config configs/fashion_mnist.yaml

# One thread for each worker: more threads than cores wait for each other.
# Three workers on two cores: many tests wait for a process or a browser to start.
test: $(VENV)/test.stamp  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

others: $(VENV)/others.stamp  ## fit modules of some twenty other packages (heavy to install: minutes, gigabytes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope tests/others

lint: $(VENV)/dev.stamp  ## the checks of pre-commit and CI
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp
	$(BIN)/mypy

# The variable hides a notice of Material about its maintenance, printed at every build.
docs: $(VENV)/dev.stamp  ## build the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/dev.stamp  ## apply all automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Rebuilt whenever pyproject.toml changes; a .venv of another python3 is made anew.
$(VENV)/%.stamp: pyproject.toml
	test "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V)" || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) runs site
