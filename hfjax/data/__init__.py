"""Data sets as pytrees of NumPy arrays: recordings, labelled samples, transitions, policies."""
