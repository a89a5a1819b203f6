"""The parts of bench_curation.py and bench_bagel_pipeline.py, one file each: rows, arms, measures, what it comes to."""
