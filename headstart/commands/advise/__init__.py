"""Advice on how to transfer: which strategy, which cut, which regularisation, and why."""
