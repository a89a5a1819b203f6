"""The parts of bench_preference.py, one file each: what is measured, on what, by which arm, and what it comes to."""
