"""Read a Run and show it to a person; never imports torch."""
