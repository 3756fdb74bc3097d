"""By which test metric a run is known. It tells; it never chooses."""

HEADLINES = ("test/accuracy", "test/r2", "test/loss")  # the first that a run has
