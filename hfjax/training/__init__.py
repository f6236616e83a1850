"""The trainer: runs, their folders, logs and configs."""
