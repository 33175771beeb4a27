"""The few lines of an app that load one artifact of a bundle, with its names, shapes, layout and labels filled in."""
