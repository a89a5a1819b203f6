"""Steps of a curation, one file each; the file name is the recipe's name."""
