# make demo | test | check | setup [PROFILE=gpu] | lock | clean. Needs Python 3.11+, make and a C++ compiler.
PYTHON  ?= python3
PROFILE ?= cpu
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/ready-$(PROFILE)
SINCE   := $(shell date +%s)
# Where it is set, every process compiles every module it imports anew: the engine's imports take 27 s instead of 12.
unexport PYTHONDONTWRITEBYTECODE
# uv does not read pip's configuration; where a directory of wheels is set for pip, it is used, and otherwise the CPU build of
# torch comes from PyTorch's own index, which uv knows.
WHEELS  := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),$(if $(filter cpu,$(PROFILE)),--torch-backend cpu,))
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(WHEELS)

.PHONY: setup demo test check format lock clean

setup: $(READY)

$(READY): locks/$(PROFILE).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Treadle needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V 2>&1`. Set PYTHON=/path/to/python3.11."; exit 1; }
	@command -v g++ >/dev/null || command -v clang++ >/dev/null || command -v c++ >/dev/null || { echo "Treadle needs a C++ compiler (Debian: apt-get install g++)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)."; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@echo "installing locks/$(PROFILE).txt into $(VENV)"
	@$(INSTALL) --requirements locks/$(PROFILE).txt
	@$(INSTALL) --editable .
	@rm -f $(VENV)/ready-* && touch $@

demo: $(READY)
	@$(BIN)/treadle demo --since $(SINCE)

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torchvision, torchaudio and torchcodec have no CPU builds and are not needed by text models: see locks/overrides.txt.
lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra dev --overrides locks/overrides.txt --no-emit-index-url --no-emit-find-links $(WHEELS) --python-version 3.11 --custom-compile-command "make lock" -o locks/cpu.txt --quiet
	$(BIN)/uv pip compile pyproject.toml --extra gpu --extra dev --overrides locks/overrides.txt --no-emit-index-url --no-emit-find-links --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --custom-compile-command "make lock" -o locks/gpu.txt --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
