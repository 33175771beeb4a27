"""Pictures, one file each: pure functions from values to an SVG and to a description of it."""
