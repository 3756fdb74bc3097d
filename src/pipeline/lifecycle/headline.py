"""By which test metric a run is known, and which way it is better."""

HEADLINES = ("test/accuracy", "test/r2", "test/loss")  # the first that a run has
LOWER_IS_BETTER = ("loss", "error", "mae", "rmse")  # how the names of such metrics end
