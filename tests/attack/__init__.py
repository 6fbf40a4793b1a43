"""Attacks on the steps that anyone can run: `python -m tests.attack` lists them."""
