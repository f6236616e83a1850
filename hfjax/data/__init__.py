"""Data sets as pytrees of NumPy arrays: recordings, labelled samples, transitions, policies."""

from hfjax import _lazy

__getattr__, __dir__ = _lazy.attributes(__name__)
