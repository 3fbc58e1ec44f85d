# Each target sets up what it needs in .venv: `make render`, `make test`.

PYTHON ?= python3
SONG ?= examples/freedoom.mid
OUT ?= out

BIN := .venv/bin
# Modules are compiled when they are first imported: most never are. What is
# compiled is kept, whatever the machine says: many tests start commands.
export PYTHONDONTWRITEBYTECODE :=
# By PEP 517: as pip did before, `tasks` and `gin` are not found beside the package.
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check \
  --no-compile --use-pep517
# uv takes a third of pip's time, where it is to be had and knows the indices.
UV := $(BIN)/uv pip install -q --python $(BIN)/python
WITH_EXTRAS := .[test,data,train,eval]
install = $(UV) -c constraints-dev.txt $(1) || \
  $(PIP) -c constraints-dev.txt $(1)

.PHONY: render test format clean

render: .venv/core
	mkdir -p $(OUT)
	$(BIN)/spec-diff render $(SONG) -o $(OUT) --plot --overwrite

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
	  --durations=5

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv $(OUT)

$(BIN)/python:
	$(PYTHON) -m venv .venv
	-$(PIP) -c constraints-dev.txt uv

# Stamps: touched after an install, so that the next call skips it.
.venv/core: $(BIN)/python setup.py constraints-dev.txt
	$(call install,-e .)
	touch $@

# tinysoundfont's pyaudio has no wheel and is needed for live playback alone.
.venv/test: .venv/core
	$(call install,-e '$(WITH_EXTRAS)')
	$(call install,--no-deps tinysoundfont)
	touch $@
