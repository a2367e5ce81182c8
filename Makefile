# The two commands are `make demo` and `make test`; `make check` is what CI adds to them.
PYTHON ?= python3
BIN := .venv/bin
SHARED_SLIDE := ../shared/data/wsi/CMU-1-Small-Region.svs

.PHONY: demo test test-qupath check bench bench-peers stubs jar clean
.DELETE_ON_ERROR:

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "ConceptSeg needs Python 3.11 to 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	mkdir -p build/demo
	$(BIN)/python -c 'import skimage.data, PIL.Image; PIL.Image.fromarray(skimage.data.immunohistochemistry()).save("build/demo/colon.png")'
	$(BIN)/conceptseg segment build/demo/colon.png --pixel-size-um 0.5 --method learned --k 5 -o build/demo/colon.geojson --overlay build/demo/colon-overlay.png --summary build/demo/colon.json
	if [ -f $(SHARED_SLIDE) ]; then $(BIN)/conceptseg segment $(SHARED_SLIDE) --k 16 -o build/demo/slide.geojson --overlay build/demo/slide-overlay.png --summary build/demo/slide.json; fi
	@echo "Results are in build/demo: drag a .geojson onto the image in QuPath, or look at the overlays."

# The extension and its scripts have tests of their own, which build the jar with Maven; those in QuPath start it many times.
QUPATH_SIDE := tests/qupath_client tests/qupath_scripts
test: .venv/installed
	$(BIN)/pytest $(QUPATH_SIDE) -m "not qupath"
	$(BIN)/pytest $(QUPATH_SIDE:%=--ignore=%)

test-qupath: .venv/installed
	$(BIN)/pytest $(QUPATH_SIDE)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) stubs STUBS=build/stubs
	for stub in build/stubs/conceptseg/v1/*; do diff $$stub server/conceptseg/v1/; done

# Messages of every file; service stubs only where there is a service.
STUBS := server
GENERATE = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I proto
stubs: .venv/installed
	mkdir -p $(STUBS)
	$(GENERATE) --python_out=$(STUBS) --mypy_out=quiet:$(STUBS) proto/conceptseg/v1/*.proto
	$(GENERATE) --grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) proto/conceptseg/v1/service.proto

jar:
	mvn -B -q -f qupath_scripts/client -DskipTests package
	mkdir -p server/conceptseg/qupath/extension
	cp qupath_scripts/client/target/conceptseg-qupath-*.jar server/conceptseg/qupath/extension/

TEXTURE = $(if $(wildcard $(SHARED_SLIDE)),--texture $(SHARED_SLIDE))
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	mkdir -p build
	$(BIN)/conceptseg bench -o build/bench --device cpu $(TEXTURE)
	$(BIN)/python tests/benchmarks/run.py --json build/bench.json --after build/bench/bench.json

# Other programs want other versions of what we use: each has an environment of its own.
PEERS := build/peers
$(PEERS)/lazyslide/installed $(PEERS)/tiatoolbox/installed: $(PEERS)/%/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@
$(PEERS)/lazyslide/installed: PACKAGES = lazyslide==0.13.0 grad-cam==1.5.7 timm
$(PEERS)/tiatoolbox/installed: PACKAGES = tiatoolbox==2.1.0

bench-peers: .venv/installed $(PEERS)/lazyslide/installed $(PEERS)/tiatoolbox/installed
	$(BIN)/conceptseg bench -o build/bench-peers --device cpu --only peers --slide-px 4096 $(TEXTURE) \
	  --peer lazyslide=$(PEERS)/lazyslide/bin/python --peer grad-cam=$(PEERS)/lazyslide/bin/python \
	  --peer tiatoolbox=$(PEERS)/tiatoolbox/bin/python

clean:
	rm -rf build .venv
