"""From labels and probabilities to scores, intervals, calibration and curves."""
