"""The benchmarks behind the project's claims: anyone can run them, and no test measures time."""
