"""Datasets of the field, one file each: what a row looks like, what it becomes, what to know before use."""
