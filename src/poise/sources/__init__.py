"""Where Examples come from: one file per source."""
