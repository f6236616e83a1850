"""The models: each file makes one Task from pure functions."""

from hfjax import _lazy

__getattr__, __dir__ = _lazy.attributes(__name__)
