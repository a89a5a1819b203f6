"""Talking with a model in the terminal, or with two side by side."""
