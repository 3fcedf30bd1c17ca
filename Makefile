# make run    install what is missing, then live in simulation (Ctrl-C ends)
# make test   install what is missing, then run the tests
#
# Options: PYTHON=python3.11, TORCH=torch==2.13.0, TORCH_INDEX=<package index of torch builds>,
#          ARGS='--scene gaze --seed 1' (of python -m dylora_ros run, or of pytest)
export PYTHON TORCH TORCH_INDEX
ARGS ?=
# a sourced ROS installation must not mix its Python packages with those of .venv
CLEAN = env -u PYTHONPATH -u AMENT_PREFIX_PATH -u COLCON_PREFIX_PATH -u LD_LIBRARY_PATH

.PHONY: run test lint docs clean

run:
	@tools/install.sh run
	@$(CLEAN) .venv/bin/python -m dylora_ros run $(ARGS)

test:
	@tools/install.sh test
	@$(CLEAN) .venv/bin/python -m pytest $(ARGS)

lint:
	@tools/install.sh test
	@.venv/bin/python -m ruff check .

docs:      # what is generated from the declarations: config/agent.yaml and docs/nodes.md
	@.venv/bin/python -m dylora_ros docs yaml > config/agent.yaml.part
	@.venv/bin/python -m dylora_ros docs nodes > docs/nodes.md.part
	@mv config/agent.yaml.part config/agent.yaml && mv docs/nodes.md.part docs/nodes.md

clean:
	rm -rf .venv build install log *.egg-info
