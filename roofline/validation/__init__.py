"""Predictions beside other people's numbers, and the fit of the constants to them."""
