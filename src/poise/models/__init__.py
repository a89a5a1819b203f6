"""What comes from a model's repository: looked at as hostile input, then opened in one place."""
