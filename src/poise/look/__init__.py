"""Show a person what is in a dataset, on a page and on the terminal; never imports torch."""
