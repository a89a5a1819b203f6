"""Turn a Recipe into a trained model in a Run folder."""
