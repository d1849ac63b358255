"""The points of bench/quality.py: a module each, with a HEADING and a function `measure`."""
