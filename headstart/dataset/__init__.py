"""From the user's photos to the table of images, data/manifest.csv."""
