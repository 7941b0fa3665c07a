"""The report of the search space: trials, importances and contours."""
