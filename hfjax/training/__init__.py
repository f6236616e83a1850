"""The trainer: runs, their folders, logs and configs."""

from hfjax import _lazy

__getattr__, __dir__ = _lazy.attributes(__name__)
