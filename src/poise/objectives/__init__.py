"""Training methods, one file each; the file name is the recipe's name for it."""
