"""Decide which Examples are kept, each decision with its reason."""
