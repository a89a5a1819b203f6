"""Prefix sharing: messages become token segments, segments a flat batch, a batch log-probabilities."""
