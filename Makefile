# `make help` lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

# make train DATASET=mnist ARCH=lenet5 EPOCHS=20 …: these options of scripts/train.py, in capitals
OPTIONS = DATASET IN_SHAPE MODEL ARCH WIDTH GATE KEEP OPTIMIZER LR EPOCHS BATCH_SIZE SEED LOADER DEVICE
GIVEN   = $(foreach option,$(OPTIONS),$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))
# the default run is runs/quickstart; with options, the name is made from them: runs/lenet5-epochs-20
NAME   ?= $(if $(strip $(GIVEN)),$(shell echo '$(GIVEN)' | sed -E 's/--[a-z_]+ ([A-Za-z])/\1/g; s/[^A-Za-z0-9.]+/-/g; s/^-//; s/-$$//'),quickstart)

.PHONY: help setup dev train test lab readme docs bench bench-gpu clean

help:     ## list the targets
	@grep -E '^[a-z-]+: ' Makefile | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 18

setup: $(VENV)/.ready ## build the virtual environment
$(VENV)/.ready: settings.ini constraints.txt setup.py
	@echo "setting up $(VENV): this takes some minutes, mostly for PyTorch and DeepSpeed"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

dev: $(VENV)/.dev ## add the packages for the tests, the docs and the loggers
$(VENV)/.dev: $(VENV)/.ready
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

train: setup ## train a ticket; options: ARCH=lenet5 EPOCHS=20 …, NAME=second for another run, ARGS=--resume to continue one
	@[ ! -e 'runs/$(NAME)' ] || case '$(ARGS)' in *--resume*|*--overwrite*) ;; *) \
	  echo "error: the run runs/$(NAME) exists: add ARGS=--resume to continue it, ARGS=--overwrite to replace it," \
	       "or NAME=second to start another"; exit 1;; esac
	scripts/launch_local_train.sh --name '$(NAME)' $(GIVEN) $(ARGS)

test: dev ## run all notebooks, and the tests that need their own processes
	@bash -c 'set -m; log=$$(mktemp); export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=10000; pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests >$$log 2>&1 & tests=$$!; set +m; trap "kill $$tests 2>/dev/null; rm $$log" EXIT; \
	TRITON_INTERPRET=1 nbdev_test --n_workers 1 --do_print; notebooks=$$?; \
	tail -n +1 -f --pid=$$tests $$log; wait $$tests && exit $$notebooks'

lab: dev ## open JupyterLab on nbs/
	jupyter lab --notebook-dir nbs

readme: dev ## write README.md from nbs/index.ipynb
	python scripts/make_readme.py

docs: dev ## build the site in _docs: with Quarto if it is installed, else a plain one
	python scripts/make_docs.py

bench: dev ## measure the ratios in the docs; appends to results/bench, kernels, infer and sweep.jsonl
	python scripts/bench.py
	python scripts/bench_kernels.py
	python scripts/bench_infer.py
	python scripts/bench_sweep.py
	python scripts/bench_peer.py

bench-gpu: dev ## measure kernels and stacks on a GPU; appends to results/kernels.jsonl and sweep.jsonl
	python scripts/bench_kernels.py --device cuda
	python scripts/bench_sweep.py --device cuda --arch lenet300 --tickets 256

clean: ## remove what the other targets build, except runs/
	rm -rf $(VENV) _docs _proc build *.egg-info
