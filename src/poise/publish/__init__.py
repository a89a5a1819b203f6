"""From a trained run to a model that others load."""
