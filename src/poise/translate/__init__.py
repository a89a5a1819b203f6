"""Recipes of other tools, made recipes of poise: one file per tool says what its keys mean here."""
