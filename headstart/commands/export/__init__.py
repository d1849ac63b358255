"""Taking the trained model away: one file or folder from raw pixels to class probabilities."""
