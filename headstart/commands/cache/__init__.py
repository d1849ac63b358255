"""`headstart cache`: look into the cache folder, check it, make room."""
