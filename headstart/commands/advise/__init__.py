"""Advice on how to transfer: which strategy, which cut, which regularization, and why."""
