"""The process: device, processor, randomness, progress, failures, Ctrl-C."""
