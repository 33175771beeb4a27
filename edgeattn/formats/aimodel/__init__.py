"""Core AI's assets, as ``coreai`` and all that look into one need them: the folder, and the program inside it."""
