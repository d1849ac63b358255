"""Backbones that KerasHub builds: vision transformers and others, from presets or local folders.

KerasHub is an extra (`pip install "headstart[hub]"`); only `networks` and `text` import it.
"""

NO_HUB = "backbone: it is one of KerasHub's, which is not installed: pip install 'headstart[hub]'"
