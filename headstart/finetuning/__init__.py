"""Fine-tuning: training what lies above a cut, from cached activations where it can."""
