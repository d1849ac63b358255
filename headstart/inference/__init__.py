"""Classifying any photos with a trained model: what to read, what to say, when to abstain."""
