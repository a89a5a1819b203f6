"""poise: from raw data and a base language model to an aligned, evaluated, published model."""

__version__ = "0.1.0"
