"""`headstart predict`: classify photos with a trained model."""
