"""Training a backbone on a source data set, for transfer to another."""
