"""What the tests of several folders use: models, rows, servers and corpora that are made in process."""
