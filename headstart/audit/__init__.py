"""What may be wrong with the data: labels, pictures and classes, told from cached features."""
