"""poise: from raw data and a base language model to an aligned, evaluated model."""

__version__ = "0.1.0"
