"""One file a picture: a pure function of values to an SVG, and a sentence that says what it shows."""
