"""`poise demo`: the whole road on a laptop, from an invented world to an aligned model and a report."""
