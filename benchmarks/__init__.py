"""What the project's claims rest on: runnable by anyone, printed, never a timed test."""
