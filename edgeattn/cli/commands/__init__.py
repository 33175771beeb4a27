"""One file a command: a function of the file's own name, whose parameters are its options. What begins with an
underscore is no command. Heavy packages are imported inside the function."""
