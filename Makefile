.PHONY: install lint type test test-all demo

install:
	pip install -r requirements-dev.txt

lint:
	ruff check .
	ruff format --check .

type:
	mypy

test:
	pytest

test-all:
	pytest -m "slow or not slow"

demo:
	streamlit run Web_demo/src/app.py
