"""Commands, one file each: a function with the file's name, whose parameters are the options. A file whose name begins
with an underscore is no command. Heavy packages are imported inside the function."""
