"""Features computed by the nodes of a Ray cluster.

The feature store is the checkpoint; Ray only places workers, tells when one is lost, and carries
requests and answers. No pixel and no vector goes through it. Ray is an extra
(`pip install 'headstart[ray]'`); `driver` alone imports it, inside its functions.
"""
