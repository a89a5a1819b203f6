"""Checks before training: pure functions over what is known of recipe, rows, template, model and machine."""
