"""`headstart suggest`: which unlabelled photos are worth labelling next."""
