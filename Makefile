# Thin names for real commands. `make demo` and `make test` need Python >= 3.10 and g++, nothing else.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
DEMO := work_dirs/demo

.PHONY: help setup build demo test test-all soak bench gpu lint format wheel check-wheel clean
help:
	@echo "make demo    draw a data set, train on it, test, draw the detections"
	@echo "make test    run the tests, without those marked slow; PROCS=2 processes"
	@echo "make test-all  all of them, as the continuous integration does"
	@echo "make soak    kills at random instants, spoilt files, thousands of iterations: within 20 minutes"
	@echo "make bench   time the op beside the others that are installed, and the model beside mmdet's"
	@echo "make gpu     on a machine with a GPU: build, test and time everything there; writes docs/gpu.md"
	@echo "make build   rebuild the C++/CUDA op"
	@echo "make wheel   one wheel for every Python >= 3.10 and torch >= 2.10, in dist/"
	@echo "make check-wheel  the same wheel beside each of TORCHES, each alone in an environment"
	@echo "make lint    ruff, as the continuous integration runs it"
	@echo "PYTHON=python3.12 and VENV=folder choose another Python and virtual environment"

# Full mmcv and mmcv-lite write the same folder: mmcv-lite only goes where there is no mmcv.
$(VENV)/.installed: requirements.txt
	@$(PYTHON) tools/check_machine.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet torch --constraint requirements.txt
	$(PIP) install --quiet --no-deps --requirement requirements.txt
	$(PY) -c "import mmcv" 2>/dev/null || $(PIP) install --quiet --no-deps mmcv-lite==2.1.0
	touch $@

$(VENV)/.built: $(VENV)/.installed setup.py $(shell find ops/csrc -type f)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/.built

build: $(VENV)/.installed
	$(PIP) install --no-deps --no-build-isolation --editable .

demo: setup
	$(PY) tools/dataset_converters/draw_shapes.py data/shapes
	$(PY) tools/train.py configs/shapes/dino_r18_shapes.py --work-dir $(DEMO)
	$(PY) tools/test.py configs/shapes/dino_r18_shapes.py $$(cat $(DEMO)/last_checkpoint) \
		--work-dir $(DEMO) --out $(DEMO)/predictions.pkl
	$(PY) tools/draw_predictions.py configs/shapes/dino_r18_shapes.py $(DEMO)/predictions.pkl \
		$(DEMO)/predictions.png

# Files are handed out whole, so that what a file shares is made once; in their order, as those that train
# have few tests and would otherwise come last, one beside an idle process.
PROCS ?= 2
PYTEST := $(PY) -m pytest -n $(PROCS) --dist loadfile --no-loadscope-reorder

test: setup $(VENV)/transformers $(VENV)/.notebook $(VENV)/.playwright
	$(PYTEST)

test-all: setup $(VENV)/transformers $(VENV)/.notebook $(VENV)/.playwright $(VENV)/.ziglang
	$(PYTEST) -m "not soak" --durations 20

soak: setup
	$(PY) -m pytest -m soak -s $(SOAK)

# In a folder of its own: see the file.
$(VENV)/transformers: tests/requirements.txt $(VENV)/.installed
	$(PIP) install --quiet --no-deps --upgrade --requirement $< --target $@
	mkdir -p $@ && touch $@

$(VENV)/.notebook: demo/requirements.txt $(VENV)/.installed
	$(PIP) install --quiet --no-deps --requirement $<
	touch $@

# Drives the Chromium that the machine has; without one those tests skip.
$(VENV)/.playwright: tests/browser_requirements.txt $(VENV)/.installed
	$(PIP) install --quiet --no-deps --requirement $<
	touch $@

# Its clang compiles the op for macOS.
$(VENV)/.ziglang: $(VENV)/.installed
	$(PIP) install --quiet --no-deps ziglang==0.17.1
	touch $@

bench: setup
	$(PY) benchmarks/op.py --out work_dirs/bench_op
	$(PY) benchmarks/train.py configs/shapes/ddetr_r18_shapes.py --shape 128 128

gpu: $(VENV)/.installed $(VENV)/transformers
	$(PY) benchmarks/gpu.py

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

wheel: setup
	rm -rf build
	$(PIP) wheel . --no-deps --no-build-isolation --wheel-dir dist

# Downloads gigabytes: PyPI's torch for Linux is the one for CUDA.
TORCHES ?= 2.10.0 2.13.0
check-wheel: wheel
	for torch in $(TORCHES); do \
		env=$(VENV)/torch-$$torch && $(PYTHON) -m venv --clear $$env && \
		$$env/bin/pip install --quiet torch==$$torch && $$env/bin/pip install --quiet --no-deps dist/*.whl && \
		(cd $$env && bin/python $(CURDIR)/tests/ops/wheel_in_use.py) || exit 1; \
	done

clean:
	rm -rf build dist *.egg-info ops/ms_deform_attn/*.so $(VENV)/.built
