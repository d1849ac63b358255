"""The points of bench/quality.py and bench/care.py: in each a HEADING and `measure`."""
