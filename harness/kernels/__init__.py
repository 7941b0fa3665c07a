"""Triton kernels: operations of the stacked engine that read and write each number once on a GPU."""
