"""The model card: what poise wrote while a model was made, for whoever uses it."""
