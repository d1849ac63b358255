"""Backbones that KerasHub builds: vision transformers and others, from presets or local folders.

KerasHub is an extra (`pip install "headstart[hub]"`); only `networks` and `text` import it.
"""
