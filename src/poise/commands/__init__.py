"""The commands, each a file that defines `command`; what one does is imported inside it."""
