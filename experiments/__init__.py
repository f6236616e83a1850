"""One folder per paper with a `run.py` each, on `experiments.harness`; and `throughput`."""
