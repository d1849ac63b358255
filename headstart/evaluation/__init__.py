"""Judging trained models: test scores, which one to choose, leaks and novelty."""
