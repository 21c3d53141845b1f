PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: book test lab bench full gpu prepare clean

book: $(READY)
	$(BIN)/nbdev-export
	$(BIN)/python -m tools.book
	@$(BIN)/python -m tools.chapters student _book/student > _book/student.log && rm _book/student.log
	@echo "The book is ready: open $(CURDIR)/_book/index.html"

test: $(READY)
	$(BIN)/nbdev-export
	$(BIN)/python -m pytest

lab: $(READY)
	$(BIN)/jupyter lab nbs

bench: $(READY)
	$(BIN)/python -m benchmarks

full: $(READY)
	$(BIN)/python -m tools.chapters full $(CHAPTER)

gpu:
	$(PYTHON) benchmarks/gpu.py

prepare: $(READY)
	$(BIN)/python -m tools.chapters prepare

clean:
	rm -rf _book _proc .quarto nbdev.yml .pytest_cache .hypothesis .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "python -m venv failed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
