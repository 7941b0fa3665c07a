"""Experiment trackers: each run goes to MLflow, Weights & Biases, TensorBoard or Trackio."""
