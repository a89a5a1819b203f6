"""A blind arena: people vote on answers side by side in the browser; votes become ratings and preference pairs."""
