"""The README, the examples and the files for deployment do what they say."""
