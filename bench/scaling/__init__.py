"""What bench/scale.py measures, a point a module."""
