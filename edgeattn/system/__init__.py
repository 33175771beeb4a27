"""Files, cache, progress, output, plug-ins, errors of vendors; nothing here imports torch."""
