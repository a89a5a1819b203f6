"""One file from raw data to a report: each stage takes what the one before it made, and is made once."""
