"""The models: each file makes one Task from pure functions."""
